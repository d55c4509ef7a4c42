"""The compiled hash lookup equals the plain one in value and gradients, and both equal sums and rows by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nerf.hash_lookup import CHANNELS, HashLayout
from utils import compiled

# With 2**9 rows at most, two dense levels and two hashed ones.
LEVELS = [(4, 5, 6), (9, 8, 7), (16, 33, 12), (40, 31, 23)]
LOG2_ROWS = 9
LOOKUPS = ("lookup", "lookup_plainly")


def table_of(layout: HashLayout, seed: int = 0) -> Tensor:
    return torch.randn(layout.rows, CHANNELS, generator=torch.Generator().manual_seed(seed))


def points(count: int, reach: float = 1.0, seed: int = 1) -> Tensor:
    return (2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 1) * reach


def at_corners(layout: HashLayout, level: int, corners: list[tuple[int, int, int]]) -> Tensor:
    """Return the points (corners, 3) at numbered corners of a level."""
    last = torch.from_numpy(layout.places[level, 1:4].astype(np.float32)) - 1
    return torch.tensor(corners) / last * 2 - 1


def gradients_of(layout: HashLayout, lookup: str, where: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the table and of the points."""
    table, where = table_of(layout).requires_grad_(), where.clone().requires_grad_()
    (getattr(layout, lookup)(table, where) * pull).sum().backward()
    assert table.grad is not None
    assert where.grad is not None
    return table.grad, where.grad


def test_a_level_has_a_row_a_corner_until_it_is_hashed() -> None:
    layout = HashLayout(LEVELS, LOG2_ROWS)
    assert layout.rows == 4 * 5 * 6 + 9 * 8 * 7 + 512 + 512
    assert layout.features == 4 * CHANNELS
    assert HashLayout([(8, 8, 8)], 9).rows == HashLayout([(8, 8, 9)], 9).rows == 512


@pytest.mark.parametrize(("levels", "log2_rows"), [([(4, 1, 4)], 9), ([(4, 4, 4)], 0), ([(4, 4, 4)], 33)])
def test_a_grid_that_cannot_be_is_refused(levels: list[tuple[int, int, int]], log2_rows: int) -> None:
    with pytest.raises(ValueError, match="found"):
        HashLayout(levels, log2_rows)


def test_a_table_of_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="found a table"):
        HashLayout(LEVELS, LOG2_ROWS).lookup(torch.zeros(7, CHANNELS), points(3))


@pytest.mark.parametrize("reach", [1.0, 1.7])
def test_the_compiled_lookup_equals_the_plain_one(reach: float) -> None:
    layout = HashLayout(LEVELS, LOG2_ROWS)
    table, where = table_of(layout), points(3000, reach)
    found = layout.lookup(table, where)
    assert found.shape == (3000, layout.features)
    np.testing.assert_allclose(found, layout.lookup_plainly(table, where), atol=3e-5)


@pytest.mark.parametrize("reach", [1.0, 1.7])
def test_their_gradients_of_table_and_points_are_equal_too(reach: float) -> None:
    layout, where = HashLayout(LEVELS, LOG2_ROWS), points(2000, reach)
    pull = torch.randn(2000, layout.features, generator=torch.Generator().manual_seed(2))
    # Points that pull at nothing, or at one level alone, are passed over where they may be.
    pull[::3] = 0.0
    pull[1::9, : 3 * CHANNELS] = -0.0
    compiled, plain = (gradients_of(layout, lookup, where, pull) for lookup in LOOKUPS)
    for ours, theirs in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
        assert float(ours.abs().max()) > 1
    assert float(compiled[1][::3].abs().max()) == 0


def test_the_plain_gradient_of_points_is_that_of_finite_differences() -> None:
    layout = HashLayout(LEVELS, LOG2_ROWS)
    table = table_of(layout).double()
    where = points(40, 1.2).double().requires_grad_()
    layout.lookup_plainly(table, where).sum().backward()
    assert where.grad is not None
    step = 1e-7
    for axis in range(3):
        moved = torch.zeros(3, dtype=torch.float64)
        moved[axis] = step
        ahead, behind = (layout.lookup_plainly(table, where.detach() + sign * moved).sum(1) for sign in (1, -1))
        np.testing.assert_allclose(where.grad[:, axis], (ahead - behind) / (2 * step), atol=1e-5)


def test_only_what_needs_a_gradient_gets_one() -> None:
    layout = HashLayout(LEVELS, LOG2_ROWS)
    table, where = table_of(layout), points(50).requires_grad_()
    layout.lookup(table, where).sum().backward()
    assert table.grad is None
    assert where.grad is not None
    assert float(where.grad.abs().max()) > 0


def test_a_gradient_that_is_not_a_number_is_not_passed_over() -> None:
    layout, pull = HashLayout(LEVELS, LOG2_ROWS), torch.full((1, len(LEVELS) * CHANNELS), torch.nan)
    for gradient in gradients_of(layout, "lookup", points(1), pull):
        assert bool(gradient.isnan().any())


def test_a_gradient_of_the_gradient_is_refused() -> None:
    layout, where = HashLayout(LEVELS, LOG2_ROWS), points(5).requires_grad_()
    total = layout.lookup(table_of(layout).requires_grad_(), where).sum()
    with pytest.raises(RuntimeError, match="lookup_plainly"):
        torch.autograd.grad(total, where, create_graph=True)


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_trilinear_weights_of_a_dense_level_by_hand(lookup: str) -> None:
    # 3 x 3 x 3 corners at -1, 0, 1; only corner (x, y, z) = (1, 0, -1) holds something: row (0 * 3 + 1) * 3 + 2
    layout = HashLayout([(3, 3, 3)], 5)
    table = torch.zeros(layout.rows, CHANNELS)
    table[5] = 8.0
    # x = 0.5 is half-way to the corner, y = 0.25 a quarter of a cell away from it, z = -0.9 a tenth
    asked = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.25, -0.9], [0.0, 0.0, -1.0], [9.0, 0.0, -5.0]])
    found = getattr(layout, lookup)(table, asked)
    np.testing.assert_allclose(found[:, 0], [8.0, 8 * 0.5 * 0.75 * 0.9, 0.0, 8.0], atol=1e-5)


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_slopes_of_a_dense_level_by_hand(lookup: str) -> None:
    layout = HashLayout([(3, 3, 3)], 5)
    # Each corner holds x + 10 y + 100 z, which interpolation keeps as it is, up to the border and not beyond.
    axis = torch.tensor([-1.0, 0.0, 1.0])
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    table = (x + 10 * y + 100 * z).reshape(-1, 1).repeat(1, CHANNELS)
    asked = torch.tensor([[0.3, -0.6, 0.9], [1.4, 0.2, -3.0]]).requires_grad_()
    getattr(layout, lookup)(table, asked)[:, 0].sum().backward()
    assert asked.grad is not None
    np.testing.assert_allclose(asked.grad, [[1, 10, 100], [0, 10, 0]], atol=1e-4)


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_the_rows_of_a_hashed_level_by_the_formula(lookup: str) -> None:
    # After a dense level of 8 rows, one with 2**9 rows:
    # (3, 1, 2): 3 ^ 2654435761 ^ 1610919722; the lowest nine bits are 3 ^ 433 ^ 298 = 152
    # (7, 20, 11): 7 ^ 53088715220 ^ 8860058471; the lowest nine bits are 7 ^ 468 ^ 359 = 180
    layout = HashLayout([(2, 2, 2), (40, 31, 23)], 9)
    table = table_of(layout)
    found = getattr(layout, lookup)(table, at_corners(layout, 1, [(3, 1, 2), (7, 20, 11)]))
    np.testing.assert_allclose(found[:, CHANNELS:], table[[8 + 152, 8 + 180]], atol=3e-5)


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_points_on_colliding_corners_add_to_the_same_row(lookup: str) -> None:
    # A row for 2 of 64 corners: by the lowest bit of x + y + z, the multipliers being odd.
    layout = HashLayout([(4, 4, 4)], 1)
    where = at_corners(layout, 0, [(1, 2, 0), (3, 3, 3), (0, 0, 2)])
    table = torch.zeros(layout.rows, CHANNELS).requires_grad_()
    pull = torch.tensor([5.0, 20.0, 300.0])[:, None]
    (getattr(layout, lookup)(table, where) * pull).sum().backward()
    assert table.grad is not None
    np.testing.assert_allclose(table.grad[:, 0], [300.0, 25.0], rtol=1e-5)


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_beyond_the_box_the_border_goes_on(lookup: str) -> None:
    layout = HashLayout(LEVELS, LOG2_ROWS)
    table, far = table_of(layout), points(500, 3.0)
    find = getattr(layout, lookup)
    np.testing.assert_allclose(find(table, far), find(table, far.clamp(-1, 1)), atol=1e-6)


def test_any_number_of_cores_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for count in (1, 2, 5):
        monkeypatch.setattr(compiled, "cores", lambda count=count: count)
        layout, where = HashLayout(LEVELS, LOG2_ROWS), points(3000, 1.3)
        pull = torch.randn(3000, layout.features, generator=torch.Generator().manual_seed(2))
        results.append((layout.lookup(table_of(layout), where), *gradients_of(layout, "lookup", where, pull)))
    for other in results[1:]:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(results[0], other, strict=True))
