"""Training on the scene: it goes on where it was stopped, says where it diverged, and takes no step too far."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from utils.errors import InputError
from utils.training import CHECKPOINT, TABLE, Schedule, run_steps


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def fresh() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(3, 1)

    def loss_of(network: nn.Linear, step: int) -> Tensor:
        if step == stop:
            raise KeyboardInterrupt
        inputs = torch.from_numpy(np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32))
        return (network(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()

    schedule = Schedule(20, 0.05, 0, 5)
    whole, broken, resumed = fresh(), fresh(), fresh()
    stop = -1
    (tmp_path / "whole").mkdir()
    run_steps(whole, "toy", lambda step: loss_of(whole, step), schedule, tmp_path / "whole")
    stop = 12
    with pytest.raises(KeyboardInterrupt):
        run_steps(broken, "toy", lambda step: loss_of(broken, step), schedule, tmp_path)
    assert (tmp_path / CHECKPOINT).exists()
    stop = -1
    run_steps(resumed, "toy", lambda step: loss_of(resumed, step), schedule, tmp_path)
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    steps = [line.split(",")[0] for line in (tmp_path / TABLE).read_text().splitlines()]
    assert steps == ["step", *map(str, range(20))]


def no_loss(weight: Tensor) -> Tensor:
    return weight.sum() * torch.nan


def no_gradient(weight: Tensor) -> Tensor:
    return (0.0 * weight).sqrt().sum()  # 0, with an infinite slope


@pytest.mark.parametrize(("loss_of", "said"), [(no_loss, "a loss of nan"), (no_gradient, "a loss of 0.0")])
def test_a_diverged_training_says_so_and_leaves_the_weights(
    loss_of: Callable[[Tensor], Tensor], said: str, tmp_path: Path
) -> None:
    network = nn.Linear(1, 1)
    nn.init.ones_(network.weight)
    before = network.weight.clone()
    schedule = Schedule(3, 1.0, 0, 1, flag="--toy_rate")
    with pytest.raises(InputError, match="diverged at step 0") as refused:
        run_steps(network, "toy", lambda _: loss_of(network.weight), schedule, tmp_path)
    assert "lower --toy_rate" in str(refused.value)
    assert said in str(refused.value)
    torch.testing.assert_close(network.weight, before)


def test_the_gradient_of_a_steep_step_is_cut_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, lengths = nn.Linear(3, 2), list[float]()

    def step(optimiser: torch.optim.Optimizer) -> None:
        gradients = [one.grad for group in optimiser.param_groups for one in group["params"]]
        lengths.append(float(torch.stack([one.norm() for one in gradients if one is not None]).norm()))

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    steep = torch.tensor([1.0, 2.0, 3.0])
    run_steps(network, "toy", lambda _: 1e6 * network(steep).sum(), Schedule(2, 1e-3, 0, 9), tmp_path)
    assert lengths == pytest.approx([1.0, 1.0], rel=1e-3)
