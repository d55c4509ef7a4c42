"""What stereo networks that learn from the scene share: their options, their weights, their training."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from stereo_prior.networks.checkpoints import check_file, load_weights
from stereo_prior.source import StereoOptions, Task
from utils.devices import choose_device
from utils.errors import InputError
from utils.training import Schedule

log = logging.getLogger("specula")

Network = TypeVar("Network", bound=nn.Module)
# What a trained network depends on, besides its own flags.
TRAINING_OPTIONS = ("depth_N_iters", "depth_lrate", "seed", "device")


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
        start = Path(weights).name if weights else "random weights"
        log.info("stereo: %s learns from this scene, %d steps from %s", called, options.depth_N_iters, start)
        learn(network, Schedule(options.depth_N_iters, options.depth_lrate, options.seed, options.depth_i_weights))
        log.info("stereo: %s trained %d steps in %.0f s", called, options.depth_N_iters, time.monotonic() - began)
    return network.eval()
