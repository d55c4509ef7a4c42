"""The source `pam`: PASMnet with given weights, or trained on the scene's own pairs, or both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stereo_prior.judgement import measuring
from stereo_prior.network_training import TRAINING_OPTIONS, check_network, ready, weights_files
from stereo_prior.networks.inputs import Framing
from stereo_prior.networks.matching import matcher
from stereo_prior.networks.pasmnet import SIDE_MULTIPLE_PX, PASMnet
from stereo_prior.pair import Pair
from stereo_prior.pam_training import train
from stereo_prior.source import Measure, Source, StereoOptions, Task
from stereo_prior.training_pairs import TrainingPairs
from utils.training import Schedule


def check(options: StereoOptions) -> None:
    """Raise InputError for missing or foreign weights, or a training that cannot be."""
    check_network("pam", PASMnet, options.pam_weights, options)


def files(options: StereoOptions) -> list[Path]:
    """Return the checkpoint, where one is given."""
    return weights_files("pam", options.pam_weights)


def prepare(task: Task) -> Measure:
    """Load weights, train on the training pairs, and return what measures a frame."""

    def learn(network: PASMnet, schedule: Schedule) -> None:
        train(network, TrainingPairs(task), schedule, task.work)

    network = ready("pam", PASMnet, task.options.pam_weights, task, learn)
    return measuring(task, matcher(lambda pair: disparity_px(network, pair)))


def disparity_px(network: PASMnet, pair: Pair) -> NDArray[np.float32]:
    """Return the network's raw disparity (h, w), px, of a pair's reference eye."""
    framing = Framing.of(pair, SIDE_MULTIPLE_PX)
    device = next(network.parameters()).device
    left, right = (image.to(device) for image in framing.images(pair))
    with torch.inference_mode():
        found, _ = network(left, right, framing.range_px)
    return framing.disparity_px(found[0, 0])


SOURCE = Source(prepare, ("pam_weights", *TRAINING_OPTIONS), check, files, threads=False)
