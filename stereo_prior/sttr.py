"""The source `sttr`: the Stereo Transformer with given weights, or trained on sparse disparities, or both."""

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
from stereo_prior.networks.matching import matcher
from stereo_prior.networks.sttr import STTR
from stereo_prior.pair import Pair
from stereo_prior.pam import training_pairs
from stereo_prior.source import Measure, Source, StereoOptions, Task
from stereo_prior.sparse_disparity import Counts, SparseDisparity, clean, read_matches
from stereo_prior.sttr_training import enough, framing_of, train
from utils.devices import choose_device
from utils.errors import InputError

log = logging.getLogger("specula")

_SEEN = 0.5  # occlusion above this: the right eye does not see the pixel


def check(options: StereoOptions) -> None:
    """Raise InputError for missing or foreign weights, a training that cannot be, or a stride without sense."""
    check_file(options.sttr_weights, "--sttr_weights")
    check_schedule("sttr", options, options.sttr_weights)
    if not 1 <= options.sttr_stride <= 8:
        raise InputError(
            f"--sttr_stride {options.sttr_stride}",
            found=str(options.sttr_stride),
            expected="1 (every pixel) to 8; the published weights were trained with 3",
            do="correct the flag",
        )
    if options.sttr_weights:
        load_weights(STTR(), Path(options.sttr_weights))


def files(options: StereoOptions) -> list[Path]:
    """Return the checkpoint, where one is given."""
    return [Path(options.sttr_weights)] if options.sttr_weights else []


def prepare(task: Task) -> Measure:
    """Load weights, train on the training frames' matches, and return what measures a frame."""
    options = task.options
    torch.manual_seed(options.seed)
    network = STTR().to(choose_device(options.device))
    if options.sttr_weights:
        load_weights(network, Path(options.sttr_weights))
    if options.depth_N_iters:
        began = time.monotonic()
        pairs = supervised_pairs(task)
        schedule = Schedule(options.depth_N_iters, options.depth_lrate, options.seed, options.depth_i_weights)
        train(network, pairs, options.sttr_stride, schedule, task.work)
        seconds = time.monotonic() - began
        log.info("stereo: sttr trained %d steps on %d pairs in %.0f s", schedule.steps, len(pairs), seconds)
    network.eval()
    return measuring(task, matcher(lambda pair: disparity_px(network, pair, options.sttr_stride)))


def supervised_pairs(task: Task) -> list[tuple[Pair, SparseDisparity]]:
    """Return the training pairs with their cleaned matches; say how many points were taken away.

    Raises:
        InputError: no frame has enough points.
    """
    names = [name for name in task.scene.names if name in set(task.scene.train)]
    total = Counts(0, 0, 0, 0)
    pairs = []
    for name, pair in zip(names, training_pairs(task), strict=True):
        points, counts = clean(read_matches(task.matches / f"{name}.npz", task.rectification), pair.search_px)
        total = total + counts
        pairs.append((pair, points))
    log.info("stereo: sttr learns from matches of %d training frames: %s", len(names), total)
    if not enough(pairs):
        raise InputError(
            "sttr has no points to learn from",
            found=str(total),
            expected="some matches in at least one training frame",
            do="give --sttr_weights with --depth_N_iters 0, or more matches (--densify ncc, another --matcher)",
        )
    return pairs


def disparity_px(network: STTR, pair: Pair, stride: int) -> NDArray[np.float32]:
    """Return the network's raw disparity (h, w), px, of a pair's reference eye; NaN where it says occluded."""
    framing = framing_of(pair)
    device = next(network.parameters()).device
    left, right = (image.to(device) for image in framing.images(pair))
    with torch.inference_mode():
        found = network(left, right, stride)
    known = torch.where(found.occlusion[0] > _SEEN, torch.nan, found.disparity_px[0])
    return framing.disparity_px(known)


SOURCE = Source(prepare, check, files, threads=False)
