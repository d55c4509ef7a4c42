"""Usual mistakes with camera poses, tried backwards: inverses, axis flips, rolls; the least warp error wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from export.cameras.looks import Look, Pair
from export.cameras.residuals import Placed, warp_error
from utils.types import BoolArray, FloatArray

MOST_PAIRS = 12  # that a change of the whole set is tried on
BETTER = 0.8  # the share of the warp error that a change may leave, to be worth its name
GOOD_WARP = 0.75

NOTHING = "no inverse, axis flip or roll explains the images"
_INVERSE = "world-to-camera was read as camera-to-world: invert"
_KNOWN = {
    "x, -y, -z": "OpenGL, Blender or nerfstudio axes were read as OpenCV's: negate y and z of the camera",
    "y, x, -z": "LLFF columns (down, right, back) were read as (right, down, forward): reorder them",
    "-x, -y, z": "rolled by 180 degrees: roll back",
    "-y, x, z": "rolled by 90 degrees: roll back",
    "y, -x, z": "rolled by 270 degrees: roll back",
}


@dataclass(frozen=True, eq=False)
class Change:
    """A way to read poses anew: an inverse, `axes` (3, 3) on the camera's side, lengths, the world's z."""

    words: str
    axes: FloatArray
    inverse: bool = False
    scale: float = 1.0
    mirror: bool = False

    def apply(self, world_from_camera: FloatArray) -> FloatArray:
        """Return the poses (..., 4, 4), read anew."""
        changed = np.linalg.inv(world_from_camera) if self.inverse else world_from_camera.copy()
        changed[..., :3, :3] = changed[..., :3, :3] @ self.axes
        changed[..., :3, 3] *= self.scale
        if self.mirror:
            changed[..., 2, :] *= -1
        return changed


@dataclass(frozen=True)
class Suggestion:
    """What fits cameras best: in words, the warp error as given and at best, whether that explains the images."""

    cameras: tuple[str, ...]
    words: str
    error_given: float
    error_changed: float
    explains: bool


def changes(mirrored: bool, *, whole: bool) -> list[Change]:
    """Return what is tried, simple things first; where poses are mirrored, what turns det -1 into +1.

    Args:
        mirrored: whether the determinants are negative.
        whole: whether all cameras are changed, and so the world and its unit may be.
    """
    one = np.eye(3)
    found = []
    if mirrored and whole:
        found.append(Change("the world is mirrored: negate one of its axes, z for instance", one, mirror=True))
    signed = [
        np.eye(3)[:, list(order)] * np.array(signs)
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    for inverse in (False, True):
        for axes in signed:
            if (np.linalg.det(axes) < 0) == mirrored and (inverse or not np.array_equal(axes, one)):
                found.append(Change(_words(axes, inverse), axes, inverse))
    if whole and not mirrored:
        found.append(Change("metres were read as millimetres: multiply lengths by 1000", one, scale=1000.0))
        found.append(Change("millimetres were read as metres: divide lengths by 1000", one, scale=0.001))
    return found


def _words(axes: FloatArray, inverse: bool) -> str:
    """Say what it means to read camera axes (3, 3), whose columns are the true x, y, z in the given ones."""
    names = [("-" if column.min() < 0 else "") + "xyz"[int(np.abs(column).argmax())] for column in axes.T]
    axes_in_words = ", ".join(names)
    if axes_in_words == "x, y, z":
        return _INVERSE
    words = _KNOWN.get(axes_in_words, f"other camera axes: take ({axes_in_words}) for (x, y, z)")
    return f"{_INVERSE}, and {words}" if inverse else words


def suggest_whole(
    names: Sequence[str],
    pairs: Sequence[Pair],
    placed: Placed,
    looks: Sequence[Look | None],
    to_depth: Callable[[FloatArray], FloatArray],
) -> tuple[Suggestion | None, Placed]:
    """Try changes of all cameras together; `to_depth` brings the lengths of poses to those of depth.

    Returns:
        The best of them, None where depth is unknown or what is given is best; and the cameras so changed.
    """
    if not pairs:
        return None, placed
    chosen = [pairs[k] for k in np.unique(np.linspace(0, len(pairs) - 1, MOST_PAIRS).round().astype(int))]
    given = _error(chosen, placed, looks)
    known = [index for index in range(len(names)) if placed.usable(index)]
    mirrored = bool(np.median(np.linalg.det(placed.world_from_camera[known, :3, :3])) < 0)
    best, error = None, np.inf if mirrored else BETTER * given
    for change in changes(mirrored, whole=True):
        other = Placed(placed.cameras, to_depth(change.apply(placed.world_from_camera)))
        found = _error(chosen, other, looks)
        if found < error - 1e-6:
            best, error, changed = change, found, other
    if best is None or np.isnan(given):
        return None, placed
    if error >= GOOD_WARP:
        return Suggestion(tuple(names), NOTHING, given, error, False), placed
    return Suggestion(tuple(names), best.words, given, error, True), changed


def suggest_single(
    names: Sequence[str], accused: BoolArray, pairs: Sequence[Pair], placed: Placed, looks: Sequence[Look | None]
) -> list[Suggestion]:
    """Try changes of every accused camera alone, against neighbours that nothing accuses."""
    found = []
    for index in np.flatnonzero(accused).tolist():
        own = [pair for pair in pairs if index in (pair.a, pair.b) and not accused[sum((pair.a, pair.b)) - index]]
        given = _error(own, placed, looks)
        if np.isnan(given):
            continue
        tried = []
        for change in changes(bool(np.linalg.det(placed.world_from_camera[index, :3, :3]) < 0), whole=False):
            poses = placed.world_from_camera.copy()
            poses[index] = change.apply(poses[index])
            tried.append((_error(own, Placed(placed.cameras, poses), looks), change.words))
        error, words = min(tried, key=lambda one: one[0])
        explains = error < min(GOOD_WARP, BETTER * given)
        found.append(Suggestion((names[index],), words if explains else NOTHING, given, error, explains))
    return found


def _error(pairs: Sequence[Pair], placed: Placed, looks: Sequence[Look | None]) -> float:
    """Return the mean warp error over pairs, both ways; NaN without depth."""
    errors = [warp_error(looks, placed, a, b) for pair in pairs for a, b in ((pair.a, pair.b), (pair.b, pair.a))]
    known = [error for error in errors if not np.isnan(error)]
    return float(np.mean(known)) if known else float("nan")
