"""The source `anynet`: AnyNet with its published weights, MIT licence, 35 thousand parameters."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stereo_prior.judgement import measuring
from stereo_prior.network_training import weights_files
from stereo_prior.networks.anynet import LARGEST_DISPARITY_PX, SIDE_MULTIPLE_PX, UNUSED_PREFIX, AnyNet
from stereo_prior.networks.checkpoints import check_file, load_weights
from stereo_prior.networks.inputs import Framing
from stereo_prior.networks.matching import matcher
from stereo_prior.pair import Pair
from stereo_prior.source import Measure, Source, StereoOptions, Task
from utils.devices import choose_device
from utils.errors import InputError

log = logging.getLogger("specula")


def check(options: StereoOptions) -> None:
    """Raise InputError unless there are weights: it is not trained here."""
    choose_device(options.device)
    check_file(options.anynet_weights, "--anynet_weights")
    if not options.anynet_weights:
        raise InputError(
            "--stereo anynet needs its weights",
            found="no --anynet_weights",
            expected="a checkpoint that its authors published (MIT licence, github.com/mileyan/AnyNet)",
            do="give --anynet_weights FILE",
        )
    load_weights(AnyNet(), Path(options.anynet_weights), unused_prefixes=(UNUSED_PREFIX,))


def files(options: StereoOptions) -> list[Path]:
    """Return the checkpoint, where one is given."""
    return weights_files("anynet", options.anynet_weights)


def prepare(task: Task) -> Measure:
    """Load the weights and return what measures a frame."""
    network = AnyNet().to(choose_device(task.options.device))
    load_weights(network, Path(task.options.anynet_weights), unused_prefixes=(UNUSED_PREFIX,))
    network.eval()
    return measuring(task, matcher(lambda pair: disparity_px(network, pair)))


def disparity_px(network: AnyNet, pair: Pair) -> NDArray[np.float32]:
    """Return the network's raw disparity (h, w), px, of a pair's reference eye."""
    framing = Framing.of(pair, SIDE_MULTIPLE_PX)
    if framing.range_px > LARGEST_DISPARITY_PX:
        log.warning(
            "stereo: anynet tells disparities over %d px, and %d px are searched: shrink the images (--factor)",
            LARGEST_DISPARITY_PX,
            framing.range_px,
        )
    device = next(network.parameters()).device
    left, right = (image.to(device) for image in framing.images(pair))
    with torch.inference_mode():
        return framing.disparity_px(network(left, right)[0, 0])


SOURCE = Source(prepare, ("anynet_weights", "device"), check, files, threads=False)
