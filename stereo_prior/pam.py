"""The source `pam`: PASMnet with given weights, or trained on the scene's own pairs, or both."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stereo_prior.judgement import measuring
from stereo_prior.network_training import Schedule, check_schedule
from stereo_prior.networks.checkpoints import check_file, load_weights
from stereo_prior.networks.inputs import Framing
from stereo_prior.networks.matching import matcher
from stereo_prior.networks.pasmnet import SIDE_MULTIPLE_PX, PASMnet
from stereo_prior.pair import Pair
from stereo_prior.pam_training import train
from stereo_prior.source import Measure, Source, StereoOptions, Task
from stereo_prior.training_pairs import TrainingPairs
from utils.devices import choose_device

log = logging.getLogger("specula")


def check(options: StereoOptions) -> None:
    """Raise InputError for missing or foreign weights, or a training that cannot be."""
    check_file(options.pam_weights, "--pam_weights")
    check_schedule("pam", options, options.pam_weights)
    if options.pam_weights:
        load_weights(PASMnet(), Path(options.pam_weights))


def files(options: StereoOptions) -> list[Path]:
    """Return the checkpoint, where one is given."""
    check_file(options.pam_weights, "--pam_weights")
    return [Path(options.pam_weights)] if options.pam_weights else []


def prepare(task: Task) -> Measure:
    """Load weights, train on the training pairs, and return what measures a frame."""
    options = task.options
    torch.manual_seed(options.seed)
    network = PASMnet().to(choose_device(options.device))
    if options.pam_weights:
        load_weights(network, Path(options.pam_weights))
    if options.depth_N_iters:
        began = time.monotonic()
        pairs = TrainingPairs(task)
        schedule = Schedule(options.depth_N_iters, options.depth_lrate, options.seed, options.depth_i_weights)
        train(network, pairs, schedule, task.work)
        log.info("stereo: pam trained %d steps on %d pairs in %.0f s", schedule.steps, len(pairs), _since(began))
    network.eval()
    return measuring(task, matcher(lambda pair: disparity_px(network, pair)))


def _since(began: float) -> float:
    return time.monotonic() - began


def disparity_px(network: PASMnet, pair: Pair) -> NDArray[np.float32]:
    """Return the network's raw disparity (h, w), px, of a pair's reference eye."""
    framing = Framing.of(pair, SIDE_MULTIPLE_PX)
    device = next(network.parameters()).device
    left, right = (image.to(device) for image in framing.images(pair))
    with torch.inference_mode():
        found, _ = network(left, right, framing.range_px)
    return framing.disparity_px(found[0, 0])


SOURCE = Source(prepare, check, files, threads=False)
