"""Ways along a velocity and back, where the answers are known: straight lines, and a linear velocity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from localisation.learned.steps import METHODS, follow, follow_back

RATE = 1.5


def straight(x: Tensor, time: float) -> Tensor:
    """Send every point along by the same vector, whenever."""
    del time
    return torch.ones_like(x) * torch.tensor([2.0, -1.0], dtype=x.dtype)


def growing(x: Tensor, time: float) -> Tensor:
    """Let x grow as exp(RATE t)."""
    del time
    return RATE * x


@pytest.fixture
def start() -> Tensor:
    return torch.tensor([[0.5, -2.0], [1.0, 3.0]], dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
def test_straight_ways_are_followed_exactly_by_all(method: str, start: Tensor) -> None:
    end = follow(straight, start, method, 5)
    assert torch.allclose(end, start + torch.tensor([2.0, -1.0], dtype=torch.float64))
    assert torch.allclose(follow_back(straight, end, method, 5), start)


def test_steps_have_the_growth_that_can_be_worked_out_by_hand(start: Tensor) -> None:
    steps, length = 10, 0.1
    assert torch.allclose(follow(growing, start, "one_step", 7), start * (1 + RATE))
    assert torch.allclose(follow(growing, start, "euler", steps), start * (1 + length * RATE) ** steps)
    per_step = 1 + length * RATE + 0.5 * (length * RATE) ** 2
    assert torch.allclose(follow(growing, start, "midpoint", steps), start * per_step**steps)
    assert torch.allclose(follow_back(growing, start, "one_step", 7), start * (1 - RATE))
    assert torch.allclose(follow_back(growing, start, "euler", steps), start * (1 - length * RATE) ** steps)


def test_fixed_points_undo_euler_and_euler_backwards_does_not(start: Tensor) -> None:
    end = follow(growing, start, "euler", 10)
    assert torch.allclose(follow_back(growing, end, "fixed_point", 10), start, rtol=1e-3)
    back = follow_back(growing, end, "euler", 10)
    # (1 - 0.15)^10 (1 + 0.15)^10 = 0.7965
    assert torch.allclose(back, 0.9775**10 * start)
    assert float((back / start - 1).abs().max()) > 0.2


def test_midpoint_comes_back_closer_than_euler(start: Tensor) -> None:
    lost = {}
    for method in ("euler", "midpoint"):
        back = follow_back(growing, follow(growing, start, method, 10), method, 10)
        lost[method] = float((back / start - 1).abs().max())
    assert lost["midpoint"] < 0.05 * lost["euler"]


def test_the_time_that_the_velocity_is_told_is_that_of_the_place() -> None:
    """x = t^2 has velocity 2 t: midpoint is exact, Euler is late by its step."""
    asked: list[float] = []

    def speeding(x: Tensor, time: float) -> Tensor:
        asked.append(time)
        return torch.full_like(x, 2.0 * time)

    zero = torch.zeros(1, 1, dtype=torch.float64)
    assert follow(speeding, zero, "euler", 4).item() == pytest.approx(0.75)
    assert np.allclose(asked, [0.0, 0.25, 0.5, 0.75])
    assert follow(speeding, zero, "midpoint", 4).item() == pytest.approx(1.0)
    asked.clear()
    assert follow_back(speeding, zero + 1.0, "euler", 4).item() == pytest.approx(-0.25)
    assert np.allclose(asked, [1.0, 0.75, 0.5, 0.25])
    assert follow_back(speeding, zero + 1.0, "midpoint", 4).item() == pytest.approx(0.0)
    assert follow_back(speeding, zero + 0.75, "fixed_point", 4).item() == pytest.approx(0.0)
