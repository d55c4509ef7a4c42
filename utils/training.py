"""Train a network on the scene: learning rate, checkpoints to go on from, a table of losses."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from utils.errors import InputError

CHECKPOINT, TABLE = "checkpoint.pt", "train.csv"
_WARM_UP = 0.05  # of the steps, the learning rate rises
_LAST_RATE = 0.02  # of the learning rate, at the end
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps, seed: as they say.
        rate: the highest learning rate.
        save_every: steps between two checkpoints.
        decay: of the weights (Loshchilov and Hutter 2019).
        flag: the flag that sets the learning rate, for errors.
    """

    steps: int
    rate: float
    seed: int
    save_every: int
    decay: float = 0.0
    flag: str = "--depth_lrate"

    def rate_at(self, step: int) -> float:
        """Return the learning rate: a short rise, then half a cosine down."""
        rise = max(1, round(_WARM_UP * self.steps))
        if step < rise:
            return self.rate * (step + 1) / rise
        share = (step - rise) / max(1, self.steps - rise)
        return self.rate * (_LAST_RATE + (1.0 - _LAST_RATE) * 0.5 * (1.0 + float(np.cos(np.pi * share))))


def run_steps(
    network: nn.Module, called: str, loss_of: Callable[[int], Tensor], schedule: Schedule, work: Path
) -> float:
    """Train in place; go on from the checkpoint in `work` where there is one, and leave one there.

    Args:
        network: on its device.
        called: its name, for progress and errors.
        loss_of: the loss of a step, drawn from the step's number alone: a resumed training goes on the same.
        schedule: steps, learning rate, how often to save.
        work: folder of the checkpoint and of `train.csv` (step, loss, learning rate).

    Returns:
        The loss, averaged over the last steps; NaN where all steps were done before.

    Raises:
        InputError: the loss or its gradient is no number any more.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
    first = _resume(network, optimiser, work / CHECKPOINT)
    network.train()
    average = float("nan")
    if first:
        _cut(work / TABLE, first)
    with (work / TABLE).open("a" if first else "w", newline="") as file:
        table = csv.writer(file)
        if not first:
            table.writerow(["step", "loss", "learning_rate"])
        steps = range(first, schedule.steps)
        bar = tqdm(
            steps, initial=first, total=schedule.steps, desc=f"{called}, training", unit="step", disable=None
        )
        for step in bar:
            rate = schedule.rate_at(step)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = loss_of(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            length = torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
            value = float(loss.detach())
            if not (np.isfinite(value) and np.isfinite(float(length))):
                raise _diverged(called, step, value, float(length), rate, schedule.flag)
            optimiser.step()
            average = value if step == first else 0.95 * average + 0.05 * value
            bar.set_postfix_str(f"loss {average:.4f}", refresh=False)
            table.writerow([step, f"{value:.5f}", f"{rate:.2e}"])
            if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
                file.flush()
                _save(network, optimiser, step + 1, work / CHECKPOINT)
    network.eval()
    return average


def _diverged(called: str, step: int, loss: float, gradient: float, rate: float, flag: str) -> InputError:
    return InputError(
        f"the training of {called} diverged at step {step}",
        found=f"a loss of {loss} with a gradient of length {gradient} at a learning rate of {rate:g}",
        expected="numbers",
        do=f"lower {flag}",
    )


def _save(network: nn.Module, optimiser: torch.optim.Optimizer, steps: int, path: Path) -> None:
    partial, data = path.with_suffix(".partial"), io.BytesIO()
    torch.save({"state_dict": network.state_dict(), "optimiser": optimiser.state_dict(), "steps": steps}, data)
    partial.write_bytes(data.getvalue())  # Python's error names a full disk; torch's does not
    partial.replace(path)


def _cut(table: Path, steps: int) -> None:
    """Take the lines of steps that will be done again out of a table."""
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[: 1 + steps]))


def _resume(network: nn.Module, optimiser: torch.optim.Optimizer, path: Path) -> int:
    """Take up a checkpoint of an interrupted training; return the number of steps done."""
    if not path.exists():
        return 0
    device = next(network.parameters()).device
    content = torch.load(path, map_location=device, weights_only=True)
    network.load_state_dict(content["state_dict"])
    optimiser.load_state_dict(content["optimiser"])
    return int(content["steps"])
