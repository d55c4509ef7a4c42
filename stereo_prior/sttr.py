"""The source `sttr`: the Stereo Transformer with given weights, or trained on sparse disparities, or both."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stereo_prior.judgement import measuring
from stereo_prior.network_training import TRAINING_OPTIONS, check_network, ready, weights_files
from stereo_prior.networks.matching import matcher
from stereo_prior.networks.sttr import STTR
from stereo_prior.pair import Pair
from stereo_prior.source import Measure, Source, StereoOptions, Task
from stereo_prior.sparse_disparity import Counts, SparseDisparity, clean, read_matches
from stereo_prior.sttr_training import enough, framing_of, train
from stereo_prior.training_pairs import TrainingPairs
from utils.errors import InputError
from utils.training import Schedule

log = logging.getLogger("specula")


def check(options: StereoOptions) -> None:
    """Raise InputError for missing or foreign weights, a training that cannot be, or a stride without sense."""
    if not 1 <= options.sttr_stride <= 8:
        raise InputError(
            f"--sttr_stride {options.sttr_stride}",
            found=str(options.sttr_stride),
            expected="1 (every pixel) to 8; the published weights were trained with 3",
            do="correct the flag",
        )
    check_network("sttr", STTR, options.sttr_weights, options)


def files(options: StereoOptions) -> list[Path]:
    """Return the checkpoint, where one is given."""
    return weights_files("sttr", options.sttr_weights)


def prepare(task: Task) -> Measure:
    """Load weights, train on the training frames' matches, and return what measures a frame."""
    stride = task.options.sttr_stride

    def learn(network: STTR, schedule: Schedule) -> None:
        pairs = TrainingPairs(task)
        train(network, pairs, known_points(task, pairs), stride, schedule, task.work)

    network = ready("sttr", STTR, task.options.sttr_weights, task, learn)
    return measuring(task, matcher(lambda pair: disparity_px(network, pair, stride)))


def known_points(task: Task, pairs: TrainingPairs) -> list[SparseDisparity]:
    """Return the cleaned matches of every training pair; say how many were taken away.

    Raises:
        InputError: no frame has enough points.
    """
    total, found = Counts(0, 0, 0, 0), []
    for name in pairs.names:
        points, counts = clean(read_matches(task.matches / f"{name}.npz", task.rectification), pairs.search_px)
        total = total + counts
        found.append(points)
    log.info("stereo: sttr learns from matches of %d training frames: %s", len(found), total)
    if not any(enough(points) for points in found):
        raise InputError(
            "sttr has no points to learn from",
            found=str(total),
            expected="some matches in at least one training frame",
            do="give --sttr_weights with --depth_N_iters 0, or more matches (--densify ncc, another --matcher)",
        )
    return found


def disparity_px(network: STTR, pair: Pair, stride: int) -> NDArray[np.float32]:
    """Return the network's raw disparity (h, w), px, of a pair's reference eye.

    Its occlusion is not looked at: sparse points do not train that head, and what one eye alone sees shows in the
    comparison of both eyes' disparities.
    """
    framing = framing_of(pair)
    device = next(network.parameters()).device
    left, right = (image.to(device) for image in framing.images(pair))
    with torch.inference_mode():
        found = network(left, right, stride)
    return framing.disparity_px(found.disparity_px[0])


SOURCE = Source(prepare, ("sttr_weights", "sttr_stride", *TRAINING_OPTIONS), check, files, threads=False)
