"""Carry one image onto another by depth and calibration or poses: which reading of them makes the two agree?

What a wrong unit, sign or axis would give is tried beside what was given. The evidence is in the pixels: it holds
whatever the files claim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.datasets.check_poses import LEAVE_OUT
from utils.datasets.samples import Sample
from utils.datasets.source import Finding, Lens, Source
from utils.geometry import invert_rigid
from utils.types import FloatArray, Side

AGREES = 0.25  # correlation of fine detail above which two images show the same
CLEARLY = 0.2  # lead of another reading that is no accident
TIE = 0.02
LEAST_SHARE = 0.15  # of the points that must land in the other image
POINTS = 20_000
STEEPEST = 3.0  # tangent, beyond which distortion terms mean nothing
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_FACTORS = (1000.0, 100.0, 10.0, 0.1, 0.01, 0.001)

Reading = Callable[[FloatArray], FloatArray]  # b_from_a as given -> as another convention would have it


@dataclass(frozen=True)
class Detail:
    """One image as fine detail: (h, w) float32 of equal strength everywhere."""

    values: NDArray[np.float32]

    @staticmethod
    def of(image: NDArray[np.uint8]) -> Detail:
        """Return what is left of an (h, w, 3) image without its shading, divided by its local contrast."""
        grey: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        sigma = max(2.0, image.shape[1] / 40)
        grey = cv2.GaussianBlur(grey, (0, 0), max(0.8, sigma / 8))
        high = grey - cv2.GaussianBlur(grey, (0, 0), sigma)
        contrast = np.sqrt(cv2.GaussianBlur(high**2, (0, 0), 2 * sigma))
        return Detail(np.asarray(high / np.maximum(contrast, 1.0), np.float32))

    def at(self, pixels: FloatArray) -> NDArray[np.float32]:
        """Return the values (n,) at pixels (n, 2), n below 32,000 (OpenCV's limit)."""
        columns, rows = (np.ascontiguousarray(pixels[:, None, axis], np.float32) for axis in (0, 1))
        return np.asarray(cv2.remap(self.values, columns, rows, cv2.INTER_LINEAR), np.float32).ravel()


@dataclass(frozen=True)
class View:
    """One eye at one frame: fine detail, lens, and points (n, 3) in its frame with their pixels (n, 2)."""

    detail: Detail
    lens: Lens
    points: FloatArray
    pixels: FloatArray


def view_of(sample: Sample, side: Side, lens: Lens, *, points: bool = True) -> View:
    """Return an eye of a sample with some of the points that its depth gives (none where none are wanted)."""
    depth = sample.depth_mm.get(side) if points else None
    if depth is None:
        empty = np.zeros((0, 3))
        return View(Detail.of(sample.images[side]), lens, empty, empty[:, :2])
    usable = np.isfinite(depth)
    if side in sample.tissue:
        usable &= sample.tissue[side]
    rows, columns = np.nonzero(usable)
    step = max(1, -(-len(rows) // POINTS))
    rows, columns = rows[::step], columns[::step]
    pixels = np.stack([columns, rows], axis=-1).astype(float)
    if not len(pixels):
        return View(Detail.of(sample.images[side]), lens, np.zeros((0, 3)), pixels)
    terms = np.array(lens.distortion) if lens.distortion else None
    rays = cv2.undistortPoints(pixels[:, None], lens.matrix, terms)[:, 0]
    seen = np.concatenate([rays, np.ones((len(rays), 1))], axis=1) * depth[rows, columns][:, None]
    return View(Detail.of(sample.images[side]), lens, seen, pixels)


def agreement(view: View, other: View, other_from_view: FloatArray) -> float:
    """Return the correlation of fine detail between a view's points and where they land in another view.

    -1 where too few of them land there at all.
    """
    moved = view.points @ other_from_view[:3, :3].T + other_from_view[:3, 3]
    slopes = np.abs(moved[:, :2]).max(axis=1)
    ahead = (moved[:, 2] > 0) & (slopes < STEEPEST * moved[:, 2])
    height, width = other.detail.values.shape
    if not ahead.any():
        return -1.0
    terms = np.array(other.lens.distortion) if other.lens.distortion else None
    still, matrix = np.zeros(3), other.lens.matrix
    landed: Any = cv2.projectPoints(moved[ahead][:, None], still, still, matrix, terms)[0][:, 0]
    inside = ((landed >= 0) & (landed <= [width - 1, height - 1])).all(axis=1)
    if inside.sum() < LEAST_SHARE * len(view.points):
        return -1.0
    here = view.detail.at(view.pixels[ahead][inside])
    there = other.detail.at(landed[inside])
    spread = float(here.std() * there.std())
    return float(((here - here.mean()) * (there - there.mean())).mean() / spread) if spread > 0 else -1.0


def _moved(factor: float) -> Reading:
    def reading(b_from_a: FloatArray) -> FloatArray:
        scaled = b_from_a.copy()
        scaled[:3, 3] *= factor
        return scaled

    return reading


def _transposed(b_from_a: FloatArray) -> FloatArray:
    turned = b_from_a.copy()
    turned[:3, :3] = b_from_a[:3, :3].T
    return turned


def _unit(factor: float, what: str) -> str:
    return f"{what} {factor:g} times as long against the depth (or depth {1 / factor:g} times)"


STEREO: dict[str, Reading] = {
    **{_unit(factor, "a baseline"): _moved(factor) for factor in _FACTORS},
    "the translation the other way round (or left and right exchanged)": _moved(-1.0),
    "the rotation transposed (MATLAB)": _transposed,
}
MOTION: dict[str, Reading] = {
    **{_unit(factor, "ways"): _moved(factor) for factor in _FACTORS},
    "OpenGL axes (y up, z back) taken for OpenCV's": lambda b_from_a: OPENGL @ b_from_a @ OPENGL,
}
INVERSE = "world-to-camera matrices taken for camera-to-world"


def check_stereo(source: Source, samples: Sequence[Sample]) -> list[Finding]:
    """Carry the left image onto the right one by its depth, under every reading of the rig."""
    if source.right_from_left is None or "right" not in source.lenses:
        return []
    both = [s for s in samples if {"left", "right"} <= set(s.images) and "left" in s.depth_mm]
    left, right = source.lenses["left"], source.lenses["right"]
    views = [(view_of(s, "left", left), view_of(s, "right", right, points=False)) for s in both]
    if not views:
        return []
    given = source.right_from_left
    scores = {"": _mean([agreement(*pair, given) for pair in views])}
    for words, reading in STEREO.items():
        if np.allclose(reading(given), given):
            continue
        scores[words] = _mean([agreement(*pair, reading(given)) for pair in views])
    return [_judge("left on right by depth", scores, "mend calib.yaml, --baseline_mm or --depth_scale")]


def check_motion(source: Source, pairs: Sequence[tuple[Sample, Sample]]) -> list[Finding]:
    """Carry left images onto later ones by depth and poses, under every reading of the poses.

    Args:
        source: its poses are looked at where they are metric.
        pairs: frames with poses; the first of each has depth.
    """
    poses, lens = source.world_from_left, source.lenses["left"]
    usable = [pair for pair in pairs if "left" in pair[0].frame.depth_mm]
    if poses is None or not source.metric or source.moving_camera is False or not usable:
        return []
    first = {a.index: view_of(a, "left", lens) for a, _ in usable}
    later = {b.index: first.get(b.index) or view_of(b, "left", lens, points=False) for _, b in usable}

    def score(world_from_camera: FloatArray, reading: Reading) -> float:
        moves = [invert_rigid(world_from_camera[b.index]) @ world_from_camera[a.index] for a, b in usable]
        pairs = zip(usable, moves, strict=True)
        return _mean([agreement(first[a.index], later[b.index], reading(move)) for (a, b), move in pairs])

    scores = {"": score(poses, lambda b_from_a: b_from_a)}
    scores |= {words: score(poses, reading) for words, reading in MOTION.items()}
    scores[INVERSE] = score(invert_rigid(poses), lambda b_from_a: b_from_a)
    return [_judge("frame on frame by depth and poses", scores, LEAVE_OUT)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _judge(subject: str, scores: Mapping[str, float], do: str) -> Finding:
    """Refuse where another reading agrees clearly better than what was given ("")."""
    given = scores[""]
    best = max((words for words in scores if words), key=lambda words: scores[words])
    words = f"fine detail agrees with correlation {given:.2f}"
    if scores[best] > AGREES and scores[best] > given + CLEARLY:
        return Finding("refuse", subject, f"{words}, with {best}: {scores[best]:.2f}", do)
    if given > AGREES and given > scores[best] - TIE:
        return Finding("ok", subject, f"{words}; the best of {len(scores) - 1} others has {scores[best]:.2f}")
    words += f", with {best}: {scores[best]:.2f}: that does not tell right from wrong"
    return Finding("warn", subject, words, "look at depth, poses and images")
