"""A view prior without weights: images of the run carried into the target by depth, wide open where none saw it.

Each condition says: where I have seen the target's surface it has my colour, within what the views differ by;
where I have not, it has any colour of the scene. It invents nothing: a pixel that no view has seen comes out as
noise of the scene's colours, which shows as what it is. It needs no field, and takes imagined views too: sampling
in turn (`novel_view.autoregression`) runs on it. `novel_view.imagination.Warp`, which `novel_view.views` uses,
knows a field, and adds gain, highlights and a smooth continuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from novel_view.gaussian_prior import GaussianPrior
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.multi_view import RaysInView
from utils.types import BoolArray, FloatArray
from utils.visibility import DepthView, seen_by

LONE_STD = 0.05  # in [-1, 1]: between views of one surface, where no two overlap that could tell
LEAST_STD = 2 / 255  # a level of an 8-bit image
_NORMAL = 1.4826  # std of a normal distribution over its median absolute value


@dataclass(frozen=True, eq=False)
class ColouredView:
    """An image and the surface that it shows: `rgb` (h, w, 3) uint8 at the size of the view's camera."""

    view: DepthView
    rgb: NDArray[np.uint8]


class Warped(NamedTuple):
    """The prior of a target, and which of its pixels (k, h, w) each condition has seen."""

    prior: GaussianPrior
    seen: BoolArray


def warped_prior(target: DepthView, sources: Sequence[ColouredView], std: float | None = None) -> Warped:
    """Return the prior that carries sources into a target view.

    Args:
        target: its camera, pose and z-depth (h, w) mm as the field renders it, NaN where there is no surface.
        sources: the conditions, in order.
        std: of the colour of a seen pixel, in [-1, 1]; None: from the differences between the sources where two of
            them see one pixel (robust; `LONE_STD` where none overlap).

    Raises:
        InputError: no source.
    """
    if not sources:
        raise InputError(
            "there is no image to carry into the target view",
            found="no condition views",
            expected="at least one",
            do="choose input views that see part of the target",
        )
    carried = [carry(target, source) for source in sources]
    colours, seen = (np.stack(part) for part in zip(*carried, strict=True))
    spread = _disagreement(colours, seen) if std is None else std
    known = colours[seen] if seen.any() else np.concatenate([_signed(each.rgb).reshape(-1, 3) for each in sources])
    means = np.where(seen[..., None], colours, known.mean(axis=0))
    stds = np.where(seen[..., None], max(spread, LEAST_STD), np.maximum(known.std(axis=0), LEAST_STD))
    return Warped(GaussianPrior(_planes(means), _planes(stds)), seen)


def carry(target: DepthView, source: ColouredView) -> tuple[FloatArray, BoolArray]:
    """Return colours (h, w, 3) in [-1, 1] of the target's pixels as a source shows them, and where it sees them.

    A pixel is seen where the source looks at the target's surface and nothing hides it (`utils.visibility`).
    """
    source_from_target = invert_rigid(source.view.world_from_camera) @ target.world_from_camera
    rays = RaysInView(target.camera, source.view.camera, source_from_target)
    _, columns, rows = rays.land(np.asarray(target.depth_mm, np.float32))
    colours = cv2.remap(_signed(source.rgb), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(colours), seen_by(target, source.view)


def _disagreement(colours: FloatArray, seen: BoolArray) -> float:
    """Return the robust std of one view's colours from the differences of pairs that see the same pixels."""
    between = [
        np.abs(colours[i] - colours[j])[seen[i] & seen[j]].ravel() for i, j in combinations(range(len(seen)), 2)
    ]
    differences = np.concatenate(between) if between else np.zeros(0)
    return float(_NORMAL * np.median(differences) / 2**0.5) if len(differences) else LONE_STD


def _signed(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(rgb, np.float32) / np.float32(127.5) - np.float32(1.0)


def _planes(maps: FloatArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(maps, -1, 1), np.float32))
