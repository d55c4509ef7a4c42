"""Parallax attention: who matches whom along a row, who is seen, and the disparity that follows.

Wang et al., Parallax Attention for Unsupervised Stereo Correspondence Learning, PAMI 2022, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.types import BoolArray

_LEAST_SEEN = 0.1  # attention that a pixel must receive from the other eye to count as seen there
_SMALLEST_OBJECT, _SMALLEST_HOLE, _CLOSING_RADIUS = 20, 10, 3  # px, of the mask of unseen pixels
_FADING = 1.0 + 1e-4  # by which a filled value is divided per pixel that it travels


@dataclass(frozen=True, eq=False)
class Attention:
    """What one scale finds, at w = width / scale.

    Attributes:
        right_to_left: (b, h, w, w) weights of right columns for every left column.
        left_to_right: (b, h, w, w) weights of left columns for every right column.
        valid_left, valid_right: (b, 1, h, w), 1 where the other eye sees the pixel, else 0.
    """

    right_to_left: Tensor
    left_to_right: Tensor
    valid_left: Tensor
    valid_right: Tensor

    @property
    def cycle_left(self) -> Tensor:
        """There and back again from the left eye, (b, h, w, w): the identity where matching is right."""
        return self.right_to_left @ self.left_to_right

    @property
    def cycle_right(self) -> Tensor:
        """There and back again from the right eye."""
        return self.left_to_right @ self.right_to_left


def attend(to_left: Tensor, to_right: Tensor, max_disparity: int) -> Attention:
    """Turn affinities (b, h, w, w) into attention over disparities from 0 to below `max_disparity`; 0: any."""
    width = to_left.shape[-1]
    columns = torch.arange(width, device=to_left.device)
    shift = columns[:, None] - columns  # left column - right column
    allowed = (shift >= 0) & (shift < max_disparity) if max_disparity > 0 else shift >= 0
    right_to_left, left_to_right = _softmax(to_left, allowed), _softmax(to_right, allowed.T)
    valid_left = _seen(left_to_right.detach().sum(dim=-2))
    valid_right = _seen(right_to_left.detach().sum(dim=-2))
    return Attention(right_to_left, left_to_right, valid_left, valid_right)


def _softmax(costs: Tensor, allowed: Tensor) -> Tensor:
    """Return a softmax (b, h, w, w) over the allowed entries; where none is, zeros."""
    costs = costs.masked_fill(~allowed, 0.0)
    weights = torch.exp(costs - costs.amax(dim=-1, keepdim=True)).masked_fill(~allowed, 0.0)
    return weights / (weights.sum(dim=-1, keepdim=True) + 1e-8)


def _seen(received: Tensor) -> Tensor:
    """Return (b, 1, h, w), 1 where pixels receive attention (b, h, w), tidied by `clean_mask`."""
    unseen = [clean_mask(mask) for mask in (received <= _LEAST_SEEN).cpu().numpy()]
    return torch.from_numpy(~np.stack(unseen)).to(received)[:, None]


def clean_mask(mask: BoolArray) -> BoolArray:
    """Return a mask (h, w) without small objects, then without small holes, then closed by a disk."""
    mask = mask & ~_small_parts(mask, _SMALLEST_OBJECT)
    mask = mask | _small_parts(~mask, _SMALLEST_HOLE)
    offsets = np.arange(-_CLOSING_RADIUS, _CLOSING_RADIUS + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= _CLOSING_RADIUS**2).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, disk) > 0)


def _small_parts(mask: BoolArray, smallest: int) -> BoolArray:
    """Return the parts of a mask, diagonals connected, of fewer than `smallest` pixels."""
    _, labels, table, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return np.asarray(mask & (table[labels, cv2.CC_STAT_AREA] < smallest))


def regress(right_to_left: Tensor, valid: Tensor) -> Tensor:
    """Return the expected disparity (b, 1, h, w) in columns; where not valid, filled from the left or the right.

    Args:
        right_to_left: (b, h, w, w) attention.
        valid: (b, 1, h, w), 1 where the right eye sees the pixel.
    """
    width = right_to_left.shape[-1]
    columns = torch.arange(width, device=right_to_left.device, dtype=right_to_left.dtype)
    expected = (columns - right_to_left @ columns)[:, None]
    known = valid > 0
    index = torch.arange(width, device=known.device)
    last = torch.where(known, index, -1).cummax(dim=-1).values
    following = torch.where(known, index, width).flip(-1).cummin(dim=-1).values.flip(-1)
    source = torch.where(last >= 0, last, following)
    inside = source.clamp(0, width - 1)
    faded = expected.gather(-1, inside) / _FADING ** (index - source).abs()
    filled = torch.where((source >= 0) & (source < width), faded, 0.0)
    return torch.where(known, expected, filled)
