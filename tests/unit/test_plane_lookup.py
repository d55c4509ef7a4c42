"""The compiled plane lookup equals the plain one in value and gradient, and both equal a sum by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nerf.plane_lookup import AXES, CHANNELS, PlaneLayout

LEVELS = [(4, 5, 6), (9, 8, 7), (16, 33, 12)]


def table_of(layout: PlaneLayout, seed: int = 0) -> Tensor:
    return torch.randn(layout.rows, CHANNELS, generator=torch.Generator().manual_seed(seed))


def points(count: int, reach: float = 1.0, seed: int = 1) -> Tensor:
    return (2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 1) * reach


def test_the_table_has_a_row_for_every_corner_of_every_plane() -> None:
    assert PlaneLayout(LEVELS).rows == sum(x * y + x * z + y * z for x, y, z in LEVELS)


@pytest.mark.parametrize("reach", [1.0, 1.7])
def test_the_compiled_lookup_equals_the_plain_one(reach: float) -> None:
    layout = PlaneLayout(LEVELS)
    table = table_of(layout)
    where = points(3000, reach)
    found = layout.lookup(table, where)
    assert found.shape == (3000, len(LEVELS) * CHANNELS)
    np.testing.assert_allclose(found, layout.lookup_plainly(table, where), atol=3e-5)


@pytest.mark.parametrize("reach", [1.0, 1.7])
def test_their_gradients_are_equal_too(reach: float) -> None:
    layout = PlaneLayout(LEVELS)
    where = points(2000, reach)
    pull = torch.randn(2000, len(LEVELS) * CHANNELS, generator=torch.Generator().manual_seed(2))
    gradients = []
    for lookup in (layout.lookup, layout.lookup_plainly):
        table = table_of(layout).requires_grad_()
        (lookup(table, where) * pull).sum().backward()
        assert table.grad is not None
        gradients.append(table.grad)
    np.testing.assert_allclose(gradients[0], gradients[1], atol=2e-3)
    assert float(gradients[0].abs().max()) > 1


def test_the_gradient_repeats_bit_for_bit() -> None:
    layout, where = PlaneLayout(LEVELS), points(5000)
    gradients = []
    for _ in range(2):
        table = table_of(layout).requires_grad_()
        layout.lookup(table, where).sum().backward()
        assert table.grad is not None
        gradients.append(table.grad)
    assert torch.equal(gradients[0], gradients[1])


def test_bilinear_weights_by_hand() -> None:
    # 3 x 3 x 3 corners at -1, 0, 1; only corner (x, y) = (1, 0) of the xy plane holds something: row 0 * 3 + 2
    layout = PlaneLayout([(3, 3, 3)])
    table = torch.zeros(layout.rows, CHANNELS)
    table[2] = 8.0
    # x = 0.5 is half-way to the corner, y = -0.75 a quarter of a cell away from it
    asked = torch.tensor([[1.0, -1.0, 0.3], [0.5, -0.75, 0.9], [0.0, 0.0, 0.0], [9.0, -5.0, 2.0]])
    found = layout.lookup(table, asked)
    np.testing.assert_allclose(found[:, 0], [8.0, 8 * 0.5 * 0.75, 0.0, 8.0], atol=1e-6)


def test_the_three_planes_of_a_level_are_added() -> None:
    layout = PlaneLayout([(4, 4, 4)])
    table = torch.zeros(layout.rows, CHANNELS)
    for number in range(len(AXES)):
        table[16 * number : 16 * (number + 1)] = 10.0**number
    np.testing.assert_allclose(layout.lookup(table, points(20)), 111.0, rtol=1e-6)


def test_beyond_the_box_the_border_goes_on() -> None:
    layout = PlaneLayout(LEVELS)
    table, far = table_of(layout), points(500, 3.0)
    np.testing.assert_allclose(layout.lookup(table, far), layout.lookup(table, far.clamp(-1, 1)), atol=1e-6)


@pytest.mark.parametrize("reach", [1.0, 1.7])
def test_points_that_need_a_gradient_get_that_of_the_plain_lookup(reach: float) -> None:
    layout = PlaneLayout(LEVELS)
    gradients = []
    for lookup in (layout.lookup, layout.lookup_plainly):
        where = points(500, reach).requires_grad_()
        found = lookup(table_of(layout), where)
        (found * found.detach()).sum().backward()
        assert where.grad is not None
        gradients.append(where.grad)
    assert float(gradients[1].abs().max()) > 1
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-4 * float(gradients[1].abs().max()))


def test_a_table_without_a_place_for_its_gradient_is_refused() -> None:
    layout = PlaneLayout(LEVELS)
    with pytest.raises(ValueError, match="no place for its gradient"):
        layout.lookup(table_of(layout).requires_grad_() * 1.0, points(5))
