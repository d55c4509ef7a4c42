"""Tell by its motion whether a sequence suits a static field: does the camera move, and does the tissue?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from utils.artifacts import read_json
from utils.rigid_motion import FEWEST_POINTS, PairMotion, motion_of_pixels, motion_of_points, smallest_px
from utils.scene import Scene
from utils.sift import detect, mutual_matches, usable_pixels
from utils.stereo_points import stereo_landmarks
from utils.types import Camera, FloatArray

RECORD = "motion.json"
State = Literal["moves", "stands", "unknown"]

_ANCHORS = 7  # frames over the whole sequence, each compared with each
_WIDTH_PX = 640  # larger images are reduced: the time is then bounded
_FEATURES = 1500
_MARGIN = 0.008  # of the image's width
_SAME_POINT = 0.006  # of the image's width: a feature this close to a stereo match has its depth
FEWEST_PAIRS = 3
# 0.39 and more in three pairs of four where the camera stands before breathing tissue; 0.10 where it travels 4 %
# of its distance around one point, which nearly stands in the image then.
_STANDING_BESIDE_RIGID = 0.33
_MOST_PAIRS = 0.75
_STANDING_POINTS = 0.1  # of all; of a camera that moves 0.03 and less
_SMALLEST_TRAVEL = 0.01  # of the tissue's distance, half a degree of parallax
_TISSUE_SHARE = {2: 0.05, 1: 0.1}  # of the points, by the number of eyes
_OFTEN, _SELDOM = 0.8, 0.9  # quantiles over pairs: breathing comes back to where it was


@dataclass(frozen=True, eq=False)
class _Frame:
    """Features of a frame's reduced left image: pixels (m, 2), descriptors (m, 128), z-depth (m,) mm or NaN."""

    pixels: FloatArray
    descriptors: Any
    depth_mm: FloatArray


@dataclass(frozen=True)
class SceneMotion:
    """What a sequence's motion says of it.

    Attributes:
        camera: whether the camera moves beside the tissue: `moves`, `stands` (it may turn), `unknown`.
        tissue: whether the tissue moves otherwise than one rigid body.
        eyes: 2 where stereo matches gave points depth, 1 where only directions were compared.
        figures: what the verdict was drawn from.
        pairs: frame, other frame, and their motion; px of the scene's image.
    """

    camera: State
    tissue: State
    eyes: int
    figures: dict[str, float]
    pairs: tuple[tuple[str, str, PairMotion], ...]

    @property
    def seen(self) -> str:
        """What was seen, in words and figures."""
        figures, words = self.figures, []
        if self.camera == "unknown":
            return f"too few points match between frames ({figures['pairs']:.0f} of {figures['tried']:.0f} pairs)"
        apart = f"its eyes are {figures['baseline_mm']:.3g} mm apart" if self.eyes == 2 else ""
        if self.camera == "stands":
            still = f"{figures['still_share']:.0%} of the points do not move in the image"
            still = still if figures["still_share"] >= _STANDING_POINTS else "it turns"
            travel = (
                f"; it travels {figures['travel_mm']:.2g} mm, {apart}" if apart and self.tissue != "moves" else ""
            )
            words.append(f"the camera stands ({still}{travel})")
        elif self.eyes == 2:
            travel = f"{figures['travel_mm']:.3g} mm, {figures['travel']:.0%} of its distance from the tissue"
            words.append(f"the camera travels ({travel}; {apart})")
        else:
            words.append(f"the camera travels ({figures['parallax_px']:.1f} px of parallax)")
        share = f"up to {figures['tissue_share']:.0%} of the points"
        if self.tissue == "moves":
            far = f", by {figures['tissue_mm']:.1f} mm" if self.eyes == 2 else ""
            beside = "" if self.camera == "stands" else ", beside the one rigid motion that explains the others"
            words.append(f"the tissue moves ({share}{far}{beside})")
        elif self.tissue == "unknown":
            words.append(f"{share} move: one eye cannot tell whether that is tissue, or parallax of a short way")
        else:
            words.append(f"the tissue does not ({share} move by themselves)")
        weaker = self.eyes == 1 and self.tissue == "stands"
        return ", ".join(words) + ("; one eye sees only strong motion of tissue" if weaker else "")

    @property
    def warning(self) -> str:
        """What that means for a static field, and what can still be had; empty where nothing is wrong."""
        if self.tissue == "moves":
            means = (
                "a static field, and all that several frames are fused into (prior, nerf, render, filter, mesh), "
                "is not valid there"
            )
        elif self.camera == "stands":
            means = (
                "there is hardly any parallax over time, so that a field knows no more of depth than one view does"
            )
        else:
            return ""
        rest = (
            "what can be had is the stereo depth of every frame, with its scores: the same command with "
            "`--poses none`"
            if self.eyes == 2
            else "depth of every frame would need the second eye"
        )
        return f"{self.seen}: {means}; {rest}"

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json` can write; what is unknown is left out."""
        pairs = [{"frame": a, "other": b} | _known(asdict(motion)) for a, b, motion in self.pairs]
        record: dict[str, Any] = {"camera": self.camera, "tissue": self.tissue, "eyes": self.eyes}
        record |= {"seen": self.seen, "warning": self.warning}
        return record | {"figures": _known(self.figures), "pairs": pairs}


def _known(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items() if np.isfinite(value)}


def read_motion(poses: Path) -> dict[str, Any]:
    """Return the record that the stage `poses` keeps of the sequence's motion; empty where it has none."""
    path = poses / RECORD
    return dict(read_json(path)) if path.exists() else {}


def measure_motion(scene: Scene, matches: Path | None) -> SceneMotion:
    """Compare frames that are spread over the sequence, tissue alone.

    Args:
        scene: the scene.
        matches: folder of the stage `matches`, whose stereo points give depth; None: one eye.
    """
    width = min(_WIDTH_PX, scene.rig.left.width)
    camera = scene.rig.left.resized(width, round(scene.rig.left.height * width / scene.rig.left.width))
    chosen = sampled_pairs(len(scene.names))
    frames = {index: _frame(scene, matches, camera, index) for index in {i for pair in chosen for i in pair}}
    baseline_mm = float("nan") if matches is None else scene.rig.baseline_mm
    pairs = []
    for first, second in chosen:
        found = _compare(camera, baseline_mm, frames[first], frames[second])
        if found is not None:
            pairs.append((scene.names[first], scene.names[second], _enlarged(found, scene.rig.left.width / width)))
    return judge_motion(pairs, len(chosen), baseline_mm, smallest_px(camera) * scene.rig.left.width / width)


def _enlarged(motion: PairMotion, times: float) -> PairMotion:
    """Return a motion whose px are those of the scene's image."""
    lengths = ("image_motion_px", "residual_px", "parallax_px")
    return replace(motion, **{key: times * getattr(motion, key) for key in lengths})


def sampled_pairs(count: int) -> list[tuple[int, int]]:
    """Return the pairs of frames to compare: each with each of a few, and near ones where those are far apart."""
    anchors = np.unique(np.linspace(0, count - 1, min(_ANCHORS, count)).round().astype(int)).tolist()
    near = []
    if count > 4 * _ANCHORS:
        step = (anchors[1] - anchors[0]) // 4
        near = [(first, first + step) for first in anchors[:-1:2]]
    return [*combinations(anchors, 2), *near]


def _frame(scene: Scene, matches: Path | None, camera: Camera, index: int) -> _Frame:
    name, full = scene.names[index], scene.rig.left
    image = scene.image("left", name)
    usable = usable_pixels(*scene.masks("left", name), max(1, round(_MARGIN * full.width)))
    if camera.width < full.width:
        size = (camera.width, camera.height)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        usable = cv2.resize(usable.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
    pixels, descriptors = detect(image, usable, max_features=_FEATURES)
    depth_mm = np.full(len(pixels), np.nan)
    if matches is not None and len(pixels):
        known = stereo_landmarks(scene, matches, name)
        scale = np.array([camera.width / full.width, camera.height / full.height])
        if len(known.pixels):
            apart = pixels[:, None] - ((known.pixels + 0.5) * scale - 0.5)[None]
            squared = (apart**2).sum(-1)
            nearest = squared.argmin(axis=1)
            near = squared.min(axis=1) <= (_SAME_POINT * camera.width) ** 2
            depth_mm = np.where(near, known.points_left[nearest, 2], np.nan)
    return _Frame(pixels, descriptors, depth_mm)


def _compare(camera: Camera, baseline_mm: float, first: _Frame, second: _Frame) -> PairMotion | None:
    """Return the motion between two frames, of one eye where no baseline is known; None: too few matches."""
    stereo = np.isfinite(baseline_mm)
    known = np.flatnonzero(np.isfinite(first.depth_mm) if stereo else np.ones(len(first.pixels), bool))
    a, b, _ = mutual_matches(first.descriptors[known], second.descriptors)
    a = known[a]
    if len(a) < FEWEST_POINTS:
        return None
    pixels = (first.pixels[a], second.pixels[b])
    if not stereo:
        return motion_of_pixels(camera, *pixels)
    return motion_of_points(camera, baseline_mm, pixels, (first.depth_mm[a], second.depth_mm[b]))


def judge_motion(
    pairs: Sequence[tuple[str, str, PairMotion]], tried: int, baseline_mm: float, least_px: float
) -> SceneMotion:
    """Draw the verdict from the motion of pairs of frames.

    Where the limits come from: phantoms of seeds 0 and 1, both rigs, 320 px wide, breathing by 4 mm of a 90 mm
    view. Points that stand in the image: 92 % and more where nothing moves, 20 to 40 % before breathing tissue,
    3 % and less where the camera travels (limit 10 %). Travel that is found where there is none: 0.1 to 0.3 % of
    the distance (1 %). Points off where the camera alone moves: 0 to 1.2 %, of one eye up to 4 %, real sequences
    included (5 %, 10 %); where tissue breathes 16 to 30 %. Breathing tissue comes back to where it was, so the
    fifth of the pairs that shows most of it counts. A breath below 2 mm of such a view is not seen. What moves
    with the endoscope and is not masked is taken for tissue that stands.

    Args:
        pairs: frame, other frame, their motion.
        tried: how many pairs were compared; those that are missing had too few matches.
        baseline_mm: between the eyes that gave points depth; NaN: one eye.
        least_px: the least image motion that counts, px.
    """
    seen, eyes = [motion for _, _, motion in pairs], 2 if np.isfinite(baseline_mm) else 1
    counts = {"pairs": float(len(seen)), "tried": float(tried), "baseline_mm": baseline_mm}
    if len(seen) < min(FEWEST_PAIRS, tried) or not seen:
        return SceneMotion("unknown", "unknown", eyes, counts, tuple(pairs))

    def over(key: str, quantile: float) -> float:
        return float(np.quantile([getattr(motion, key) for motion in seen], quantile))

    standing = sum(_stands(motion) for motion in seen) >= _MOST_PAIRS * tried
    tissue: State = "moves" if over("off_share", _OFTEN) > _TISSUE_SHARE[eyes] else "stands"
    if eyes == 2:
        travels = over("travel", _SELDOM) > _SMALLEST_TRAVEL
    else:
        travels = over("parallax_px", _SELDOM) > least_px
        if standing and tissue == "stands" and over("moved_share", _OFTEN) > _TISSUE_SHARE[eyes]:
            tissue = "unknown"  # a little parallax and moving tissue look alike
    beside_standing = standing and tissue != "stands"
    figures = counts | {
        "still_share": over("still_share", 0.5),
        "travel": over("travel", _SELDOM),
        "travel_mm": over("travel_mm", _SELDOM),
        "parallax_px": over("parallax_px", _SELDOM),
        "tissue_share": over("moved_share" if beside_standing else "off_share", _OFTEN),
        "tissue_mm": over("moved_mm" if beside_standing else "off_mm", _OFTEN),
    }
    camera: State = "moves" if travels and not standing else "stands"
    return SceneMotion(camera, tissue, eyes, figures, tuple(pairs))


def _stands(motion: PairMotion) -> bool:
    """Whether a part of the tissue stands in the image, and travel of the camera does not explain more points."""
    beside = motion.still_beside_rigid
    return motion.still_share >= _STANDING_POINTS and not beside < _STANDING_BESIDE_RIGID
