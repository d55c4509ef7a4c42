"""Train the Stereo Transformer on a scene, supervised by sparse disparities.

Li et al., Revisiting Stereo Depth Estimation From a Sequence-to-Sequence Perspective with Transformers, ICCV 2021,
section 3.6: the response at the true match, and the smooth L1 distance of disparity, before and after the context
is looked at. The head that tells occlusion is not trained: no sparse point lies where one eye alone sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stereo_prior.networks.inputs import Framing
from stereo_prior.networks.sttr import STTR, first_sample
from stereo_prior.networks.sttr_features import SMALLEST_SIDE_PX
from stereo_prior.pair import Pair
from stereo_prior.sparse_disparity import SparseDisparity
from utils.training import Schedule, run_steps

SIDE_MULTIPLE_PX = 16
_BAND_PX = 128  # rows of a training example: attention needs rows whole, and columns at full width
_FEWEST_POINTS = 8
_EPSILON = 1e-6


@dataclass(frozen=True, eq=False)
class Example:
    """A framed pair (1, 3, h, w) and what is known of it: pixels (m, 2) and disparities (m,), framed, px."""

    left: Tensor
    right: Tensor
    pixels: Tensor
    disparity_px: Tensor

    def to(self, device: torch.device) -> Example:
        """Return the same on a device."""
        tensors = (self.left, self.right, self.pixels, self.disparity_px)
        return Example(*(one.to(device) for one in tensors))


def framing_of(pair: Pair) -> Framing:
    """Return how a pair is framed for this network."""
    return Framing.of(pair, SIDE_MULTIPLE_PX, SMALLEST_SIDE_PX)


def example(pair: Pair, points: SparseDisparity) -> Example:
    """Frame a pair and its points."""
    framing = framing_of(pair)
    left, right = framing.images(pair)
    pixels = torch.from_numpy(points.pixels.astype(np.float32)) + torch.tensor([float(framing.left_px), 0.0])
    disparity = torch.from_numpy(points.disparity_px.astype(np.float32)) - framing.shift_px
    return Example(left, right, pixels, disparity)


def band(given: Example, top: int) -> Example:
    """Return the rows from `top` on, as many as a training example has."""
    height = min(_BAND_PX, given.left.shape[-2])
    inside = (given.pixels[:, 1] >= top) & (given.pixels[:, 1] <= top + height - 1)
    rows = slice(top, top + height)
    pixels = given.pixels[inside] - torch.tensor([0.0, float(top)])
    return Example(given.left[..., rows, :], given.right[..., rows, :], pixels, given.disparity_px[inside])


def losses(network: STTR, given: Example, stride: int) -> Tensor:
    """Return response, coarse and fine disparity losses at the points; the mean of each, added."""
    found = network(given.left, given.right, stride, keep_transport=True)
    assert found.transport is not None
    columns, rows = given.pixels[:, 0], given.pixels[:, 1]
    start = first_sample(stride)
    token_row = ((rows - start) / stride).round().long().clamp(0, found.coarse_px.shape[1] - 1)
    token_column = ((columns - start) / stride).round().long().clamp(0, found.coarse_px.shape[2] - 1)
    # the point's disparity is taken to hold at the nearest token
    partner = token_column - given.disparity_px / stride
    response = _response(found.transport[0], token_row, token_column, partner)
    coarse = found.coarse_px[0, token_row, token_column]
    fine = found.disparity_px[0, rows.round().long(), columns.round().long()]
    return (
        -torch.log(response + _EPSILON).mean()
        + functional.smooth_l1_loss(coarse, given.disparity_px)
        + functional.smooth_l1_loss(fine, given.disparity_px)
    )


def _response(transport: Tensor, rows: Tensor, columns: Tensor, partner: Tensor) -> Tensor:
    """Return the transport (m,) to fractional right columns (m,), interpolated; nothing lies outside."""
    last = transport.shape[-1] - 2
    below = partner.floor()
    share = partner - below
    total = torch.zeros_like(partner)
    for column, weight in ((below, 1.0 - share), (below + 1.0, share)):
        inside = (column >= 0) & (column <= last)
        value = transport[rows, columns, column.long().clamp(0, last)]
        total = total + torch.where(inside, weight * value, 0.0)
    return total


def train(
    network: STTR,
    pairs: Sequence[Pair],
    points: Sequence[SparseDisparity],
    stride: int,
    schedule: Schedule,
    work: Path,
) -> None:
    """Train in place; go on from the checkpoint in `work` where there is one, and leave one there.

    Args:
        network: on its device.
        pairs: rectified training pairs.
        points: what is known of each, cleaned; of at least one `enough`.
        stride: px between tokens.
        schedule: steps, learning rate, seed.
        work: folder of the checkpoint and of `train.csv`.
    """
    device = next(network.parameters()).device
    usable = [index for index, known in enumerate(points) if enough(known)]

    def loss_of(step: int) -> Tensor:
        random = np.random.default_rng((schedule.seed, step))
        drawn = usable[random.integers(len(usable))]
        whole = example(pairs[drawn], points[drawn])
        # bands around a known point: none is without supervision
        middle = float(whole.pixels[random.integers(len(whole.pixels)), 1])
        top = int(np.clip(middle - _BAND_PX / 2, 0, max(0, whole.left.shape[-2] - _BAND_PX)))
        part = band(whole, top)
        return losses(network, part.to(device), stride)

    run_steps(network, "sttr", loss_of, schedule, work)


def enough(points: SparseDisparity) -> bool:
    """Return whether a frame can be learned from."""
    return len(points.pixels) >= _FEWEST_POINTS
