"""The training loop of the stereo networks: learning rate, checkpoints, a table of losses."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from stereo_prior.networks.checkpoints import check_file, load_weights
from stereo_prior.source import StereoOptions, Task
from utils.devices import choose_device
from utils.errors import InputError

log = logging.getLogger("specula")

Network = TypeVar("Network", bound=nn.Module)
# What a trained network depends on, besides its own flags.
TRAINING_OPTIONS = ("depth_N_iters", "depth_lrate", "seed", "device")
CHECKPOINT, TABLE = "checkpoint.pt", "train.csv"
_WARM_UP = 0.05  # of the steps, the learning rate rises
_LAST_RATE = 0.02  # of the learning rate, at the end
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    steps: int
    rate: float
    seed: int
    save_every: int

    def rate_at(self, step: int) -> float:
        """Return the learning rate: a short rise, then half a cosine down."""
        rise = max(1, round(_WARM_UP * self.steps))
        if step < rise:
            return self.rate * (step + 1) / rise
        share = (step - rise) / max(1, self.steps - rise)
        return self.rate * (_LAST_RATE + (1.0 - _LAST_RATE) * 0.5 * (1.0 + float(np.cos(np.pi * share))))


def run_steps(
    network: nn.Module, called: str, loss_of: Callable[[int], Tensor], schedule: Schedule, work: Path
) -> None:
    """Train in place; go on from the checkpoint in `work` where there is one, and leave one there.

    Args:
        network: on its device.
        called: its name, for progress and errors.
        loss_of: the loss of a step, drawn from the step's number alone: a resumed training goes on the same.
        schedule: steps, learning rate, how often to save.
        work: folder of the checkpoint and of `train.csv` (step, loss, learning rate).

    Raises:
        InputError: the loss is no number any more.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=schedule.rate)
    first = _resume(network, optimiser, work / CHECKPOINT)
    network.train()
    average: float | None = None
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
            value = _number(loss, called, step, rate)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
            optimiser.step()
            average = value if average is None else 0.95 * average + 0.05 * value
            bar.set_postfix_str(f"loss {average:.4f}", refresh=False)
            table.writerow([step, f"{value:.5f}", f"{rate:.2e}"])
            if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
                file.flush()
                _save(network, optimiser, step + 1, work / CHECKPOINT)
    network.eval()


def _number(loss: Tensor, called: str, step: int, rate: float) -> float:
    """Return the loss as a number. Raises InputError when it is none."""
    value = float(loss.detach())
    if not np.isfinite(value):
        raise InputError(
            f"the training of {called} diverged at step {step}",
            found=f"a loss of {value} at a learning rate of {rate:g}",
            expected="a number",
            do="lower --depth_lrate",
        )
    return value


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


def check_network(called: str, build: Callable[[], nn.Module], weights: str, options: StereoOptions) -> None:
    """Refuse what cannot be, before any stage runs.

    Raises:
        InputError: no such device, missing or foreign weights, senseless numbers, neither weights nor training.
    """
    choose_device(options.device)
    check_file(weights, f"--{called}_weights")
    if options.depth_N_iters < 0 or options.depth_lrate <= 0 or options.depth_i_weights < 1:
        raise InputError(
            f"the training of {called} is out of range",
            found=f"{options.depth_N_iters} steps, learning rate {options.depth_lrate:g}, "
            f"a checkpoint every {options.depth_i_weights}",
            expected="steps of 0 and more, a learning rate above 0, a checkpoint every step or less often",
            do="correct --depth_N_iters, --depth_lrate or --depth_i_weights",
        )
    if weights:
        load_weights(build(), Path(weights))
    elif options.depth_N_iters == 0:
        raise InputError(
            f"--stereo {called} has nothing to match with",
            found=f"no --{called}_weights, and --depth_N_iters 0",
            expected="a checkpoint, steps of training on this scene, or both",
            do=f"give --{called}_weights FILE, or leave --depth_N_iters at its default",
        )


def weights_files(called: str, weights: str) -> list[Path]:
    """Return the checkpoint, where one is given. Raises InputError where it is missing."""
    check_file(weights, f"--{called}_weights")
    return [Path(weights)] if weights else []


def ready(
    called: str, build: Callable[[], Network], weights: str, task: Task, learn: Callable[[Network, Schedule], None]
) -> Network:
    """Return a network for measuring: its weights loaded, trained on the scene, or both.

    Args:
        called: its name.
        build: makes it, with random weights.
        weights: a checkpoint, or an empty string.
        task: the scene.
        learn: trains it in place.
    """
    options = task.options
    torch.manual_seed(options.seed)
    network = build().to(choose_device(options.device))
    if weights:
        load_weights(network, Path(weights))
    if options.depth_N_iters:
        began = time.monotonic()
        learn(network, Schedule(options.depth_N_iters, options.depth_lrate, options.seed, options.depth_i_weights))
        log.info("stereo: %s trained %d steps in %.0f s", called, options.depth_N_iters, time.monotonic() - began)
    return network.eval()
