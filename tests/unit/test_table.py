"""Adam in one pass moves as torch's does; kernels shared among cores cover everything once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nerf.table import WORTH_SHARING, OnePassAdam, gradient_of
from utils import compiled
from utils.compiled import share


@pytest.mark.parametrize("count", [7, 2 * WORTH_SHARING + 5])
def test_adam_moves_as_that_of_torch(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(count, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    options = {"betas": (0.9, 0.99), "eps": 1e-15}
    one_pass = OnePassAdam([{"params": [ours], "lr": 0.02}], **options)  # type: ignore[arg-type]
    usual = torch.optim.Adam([theirs], lr=0.02, **options)  # type: ignore[arg-type]
    for _ in range(5):
        gradient = torch.randn(count, generator=generator) * (torch.rand(count, generator=generator) > 0.5)
        gradient_of(ours)[:] = gradient.numpy()
        theirs.grad = gradient
        one_pass.step()
        usual.step()
        assert ours.grad is not None
        assert not ours.grad.any(), "ready for the next step"
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
    assert float((ours - start).abs().max()) > 0.05


def test_adam_goes_on_from_its_stored_state() -> None:
    def trained(
        steps: list[int], stored: dict[str, object] | None, value: torch.Tensor
    ) -> tuple[object, torch.Tensor]:
        parameter = torch.nn.Parameter(value.clone())
        adam = OnePassAdam([{"params": [parameter], "lr": 0.1}], (0.9, 0.99), 1e-15)
        if stored is not None:
            adam.load_state_dict(stored)
        for step in steps:
            gradient_of(parameter)[:] = np.sin(step + np.arange(4.0))
            adam.step()
        return adam.state_dict(), parameter.detach()

    _, whole = trained([0, 1, 2, 3], None, torch.zeros(4))
    stored, half = trained([0, 1], None, torch.zeros(4))
    _, resumed = trained([2, 3], stored, half)  # type: ignore[arg-type]
    assert torch.equal(whole, resumed)


def test_what_has_no_gradient_stays() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    OnePassAdam([{"params": [parameter], "lr": 0.1}], (0.9, 0.99), 1e-15).step()
    assert torch.equal(parameter.detach(), torch.ones(3))


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_shared_work_is_done_once(cores: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "cores", lambda: cores)
    done = np.zeros(count, int)

    def kernel(first: int, last: int, values: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        values[first:last] += 1

    share(kernel, count, done)
    assert (done == 1).all()


def test_an_error_in_a_shared_part_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "cores", lambda: 2)

    def kernel(first: int, last: int) -> None:
        del last
        if first:
            raise ValueError("the second part")

    with pytest.raises(ValueError, match="the second part"):
        share(kernel, 4)
