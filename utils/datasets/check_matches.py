"""Match features between images, and ask of calibration and poses whether they explain the matches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.datasets.check_poses import LEAVE_OUT
from utils.datasets.samples import Sample
from utils.datasets.source import Finding, Lens, Source, Verdict
from utils.geometry import invert_rigid, triangulate
from utils.llff_rows import OPENCV_FROM_LLFF_AXES
from utils.sift import detect, mutual_matches
from utils.types import FloatArray

WIDEST = 640  # px: larger images are matched at this width
TOLERANCE = 0.004  # of the width, from the line on which a match must lie
FEWEST = 30
EXPLAINED = 0.5  # share of the matches that right calibration and poses explain at least
CONTRADICTED = 0.15  # what chance explains, and wrong poses: 2 to 7 % on real photographs, right ones 90 %
CLEARLY = 0.2  # lead of another reading that is no accident
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_LLFF = np.eye(4)
_LLFF[:3, :3] = OPENCV_FROM_LLFF_AXES

Reading = Callable[[FloatArray], FloatArray]  # b_from_a as given -> under another reading of the file


@dataclass(frozen=True)
class Matches:
    """Pixels (m, 2) of two images that show the same, in stored pixels."""

    pixels_a: FloatArray
    pixels_b: FloatArray


def match(image_a: NDArray[np.uint8], image_b: NDArray[np.uint8]) -> Matches:
    """Match two images (h, w, 3) by SIFT features, mutually and with the ratio test."""
    (pixels_a, descriptors_a), (pixels_b, descriptors_b) = (_features(image) for image in (image_a, image_b))
    first, second, _ = mutual_matches(descriptors_a, descriptors_b, ratio=0.75)
    return Matches(pixels_a[first], pixels_b[second])


def _features(image: NDArray[np.uint8]) -> tuple[FloatArray, NDArray[np.float32]]:
    shrink = min(1.0, WIDEST / image.shape[1])
    size = (round(shrink * image.shape[1]), round(shrink * image.shape[0]))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8) if shrink < 1 else image
    pixels, descriptors = detect(small, np.ones(small.shape[:2], bool), max_features=2000)
    return (pixels + 0.5) / shrink - 0.5, descriptors


def explained(matches: Matches, lens_a: Lens, lens_b: Lens, b_from_a: FloatArray) -> float:
    """Return the share of matches on their epipolar lines and in front of both cameras; NaN for too few."""
    translation = b_from_a[:3, 3]
    if len(matches.pixels_a) < FEWEST or np.linalg.norm(translation) == 0:
        return float("nan")
    rays_a, rays_b = _rays(matches.pixels_a, lens_a), _rays(matches.pixels_b, lens_b)
    lines = np.cross(translation, rays_a @ b_from_a[:3, :3].T)
    width_px = 2 * lens_b.matrix[0, 2] + 1
    length = np.maximum(np.linalg.norm(lines[:, :2], axis=1), 1e-12)
    off_px = np.abs((lines * rays_b).sum(axis=1)) / length * lens_b.matrix[0, 0]
    points_a = triangulate(np.eye(3), np.eye(3), b_from_a, rays_a[:, :2], rays_b[:, :2])
    ahead = (points_a[:, 2] > 0) & (points_a @ b_from_a[2, :3] + b_from_a[2, 3] > 0)
    return float((ahead & (off_px < max(1.5, TOLERANCE * width_px))).mean())


def _rays(pixels: FloatArray, lens: Lens) -> FloatArray:
    """Return viewing directions (m, 3) with z = 1 of stored pixels, undistorted."""
    terms = np.array(lens.distortion) if lens.distortion else None
    flat = cv2.undistortPoints(pixels[:, None].astype(float), np.asarray(lens.matrix, float), terms)[:, 0]
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)


EYES: dict[str, Reading] = {
    "the translation the other way round, or left and right exchanged": lambda b: _turned(b, translation=True),
    "the rotation transposed (MATLAB)": lambda b: _turned(b, translation=False),
}
POSES: dict[str, Reading] = {
    "OpenGL's axes (y up, z back)": lambda b: _OPENGL @ b @ _OPENGL,
    "LLFF's axes (down, right, back)": lambda b: invert_rigid(_LLFF) @ b @ _LLFF,
    "LLFF's axes turned into OpenCV's twice": lambda b: _LLFF @ b @ invert_rigid(_LLFF),
}
INVERSE = "world-to-camera matrices for camera-to-world ones"


def _turned(b_from_a: FloatArray, *, translation: bool) -> FloatArray:
    other = b_from_a.copy()
    if translation:
        other[:3, 3] *= -1
    else:
        other[:3, :3] = b_from_a[:3, :3].T
    return other


def check_eyes(source: Source, samples: Sequence[Sample]) -> list[Finding]:
    """Match left and right images of some frames, and compare with the calibration of the rig."""
    given, lenses = source.right_from_left, source.lenses
    if given is None or "right" not in lenses:
        return []
    pairs = [match(s.images["left"], s.images["right"]) for s in samples if {"left", "right"} <= set(s.images)]
    scores = {"": _share([explained(pair, lenses["left"], lenses["right"], given) for pair in pairs])}
    for words, reading in EYES.items():
        scores[words] = _share([explained(p, lenses["left"], lenses["right"], reading(given)) for p in pairs])
    do = (
        "exchange left and right images if they are swapped, or mend the calibration; images that are not "
        "rectified must not have a rectified pair's"
    )
    return _judge("matches between the eyes", scores, do)


def check_steps(source: Source, pairs: Sequence[tuple[Sample, Sample]]) -> list[Finding]:
    """Match left images with those of later frames, and compare with the poses, which both frames must have."""
    poses, lens = source.world_from_left, source.lenses["left"]
    if poses is None or source.moving_camera is False or not pairs:
        return []
    found = [match(a.images["left"], b.images["left"]) for a, b in pairs]

    def share(world_from_camera: FloatArray, reading: Reading) -> float:
        moves = [invert_rigid(world_from_camera[b.index]) @ world_from_camera[a.index] for a, b in pairs]
        return _share([explained(m, lens, lens, reading(move)) for m, move in zip(found, moves, strict=True)])

    scores = {"": share(poses, lambda b: b)}
    scores |= {words: share(poses, reading) for words, reading in POSES.items()}
    scores[INVERSE] = share(invert_rigid(poses), lambda b: b)
    return _judge("matches between frames", scores, LEAVE_OUT)


def _share(shares: Sequence[float]) -> float:
    """Return the median of the known shares; NaN without any."""
    known = [share for share in shares if np.isfinite(share)]
    return float(np.median(known)) if known else float("nan")


def _judge(subject: str, scores: Mapping[str, float], do: str) -> list[Finding]:
    """Refuse where another reading explains clearly more of the matches than what was given ("")."""
    given = scores[""]
    if not np.isfinite(given):
        return [Finding("ok", subject, f"fewer than {FEWEST} a pair, or no way between them: they say nothing")]
    best = max((words for words in scores if words), key=lambda words: scores[words])
    words = f"{given:.0%} lie where calibration and poses put them, in front of both cameras"
    if scores[best] > EXPLAINED and scores[best] > given + CLEARLY:
        return [Finding("refuse", subject, f"{words}; with {best}: {scores[best]:.0%}", do)]
    if given > EXPLAINED:
        return [Finding("ok", subject, words)]
    verdict: Verdict = "refuse" if given < CONTRADICTED else "warn"
    return [Finding(verdict, subject, words, do)]
