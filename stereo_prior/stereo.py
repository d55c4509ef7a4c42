"""Stage `stereo`: metric depth, its uncertainty and its confidence from the two eyes of every frame."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stereo_prior.pair import Disparity, Pair, flip, load_pair, sample_other
from stereo_prior.pictures import beside, coloured, limits
from stereo_prior.rectification import Rectification
from stereo_prior.search_range import search_range
from stereo_prior.sgbm import disagreement, match_sgbm
from utils.artifacts import save_maps
from utils.errors import InputError, NotApplicable
from utils.images import write_rgb
from utils.options import option
from utils.parallel import workers
from utils.scene import Scene
from utils.stages import Stage
from utils.types import FloatArray, Side

log = logging.getLogger("specula")

_AGREE_PX = 1.0  # largest left-right difference of a known pixel
_SPECKLE_SHARE = 0.0006  # of the image: smaller patches of their own depth are mistakes
_SPECKLE_STEP_PX = 1.0
_FLOOR_PX = 0.02  # no match is better, however strong its texture

Map = NDArray[np.float32]
Source = Callable[[Pair], tuple[Disparity, Disparity]]
SOURCES: dict[str, Source] = {"sgbm": match_sgbm}


@dataclass(frozen=True)
class StereoOptions:
    """Which programs match the two eyes."""

    stereo: str = option("sgbm", f"stereo sources, separated by commas: {', '.join(SOURCES)}")


@dataclass(frozen=True, eq=False)
class _Judged:
    """Rectified maps (h, w) of one eye: disparity px, its sigma px, confidence; NaN and 0 where unknown."""

    disparity_px: Map
    sigma_px: Map
    confidence: Map

    def mirrored(self) -> _Judged:
        return _Judged(flip(self.disparity_px), flip(self.sigma_px), flip(self.confidence))


def chosen_sources(options: StereoOptions) -> list[str]:
    """Return the names of the sources asked for. Raises InputError for an unknown one."""
    names = [name.strip() for name in options.stereo.split(",") if name.strip()]
    unknown = [name for name in names if name not in SOURCES]
    if unknown or not names:
        raise InputError(
            f"--stereo {options.stereo}",
            found=f"no source called {unknown[0]}" if unknown else "no source",
            expected=f"one or several of {', '.join(SOURCES)}",
            do="for example --stereo sgbm",
        )
    return names


def check(options: StereoOptions) -> None:
    """Refuse an unknown source before anything runs."""
    chosen_sources(options)


def run(options: StereoOptions, *, out: Path, scene: Path, matches: Path) -> str:
    """Match both eyes of every frame; write depth, sigma and confidence in the original pixels of each eye.

    Raises:
        InputError: an unknown source.
        NotApplicable: the scene has one eye.
    """
    names = chosen_sources(options)
    loaded = Scene.load(scene)
    if not loaded.rig.stereo or "right" not in loaded.sides:
        raise NotApplicable("the scene has left images only: there is no second eye to match")
    rectification = Rectification.of(loaded.rig)
    found_px = matched_disparities(loaded, rectification, matches)
    shares: list[tuple[float, float]] = []
    for source in names:

        def one(name: str, source: str = source) -> tuple[float, float]:
            return _measure_frame(loaded, rectification, source, name, found_px[name], out / source)

        with ThreadPoolExecutor(max_workers=workers()) as pool:
            work = pool.map(one, loaded.names)
            with tqdm(work, total=len(loaded.names), desc=f"stereo, {source}", unit="frame", disable=None) as bar:
                for share, sigma in bar:
                    shares.append((share, sigma))
                    bar.set_postfix_str(f"{100 * share:.1f} % measured")
    share, sigma = np.nanmean(np.array(shares), axis=0)
    return (
        f"{len(loaded.names)} frames, both eyes, by {', '.join(names)}: {100 * share:.1f} % of the tissue "
        f"measured, median sigma {100 * sigma:.2f} % of the depth"
    )


def matched_disparities(scene: Scene, rectification: Rectification, matches: Path) -> dict[str, FloatArray]:
    """Return the rectified disparities, px, of every frame's matches."""
    found: dict[str, FloatArray] = {}
    for name in scene.names:
        path = matches / f"{name}.npz"
        if not path.exists():
            found[name] = np.zeros(0)
            continue
        with np.load(path) as file:
            left = rectification.rectify_pixels(file["pixels_left"], "left")
            right = rectification.rectify_pixels(file["pixels_right"], "right")
        disparities_px = left[:, 0] - right[:, 0]
        in_front = np.isfinite(rectification.depth_from_disparity(disparities_px))
        found[name] = disparities_px[in_front]
    return found


def _measure_frame(
    scene: Scene, rectification: Rectification, source: str, name: str, found_px: FloatArray, out: Path
) -> tuple[float, float]:
    """Match one frame; return the share of the tissue that was measured and the median relative sigma."""
    pair = load_pair(scene, rectification, name, search_range(rectification, scene, name, found_px))
    left, right = SOURCES[source](pair)
    judged: dict[Side, _Judged] = {
        "left": _judge(pair, left, right),
        "right": _judge(pair.exchanged(), right.mirrored(), left.mirrored()).mirrored(),
    }
    shares, sigmas = [], []
    for side, maps in judged.items():
        depth_mm, sigma_mm, confidence = _in_original(rectification, side, maps)
        tissue, _ = scene.masks(side, name)
        depth_mm[~tissue], sigma_mm[~tissue], confidence[~tissue] = np.nan, np.nan, 0
        save_maps(out, side, name, depth_mm=depth_mm, sigma_mm=sigma_mm, confidence=confidence)
        known = np.isfinite(depth_mm)
        shares.append(known[tissue].mean() if tissue.any() else np.nan)
        sigmas.append(np.median((sigma_mm / depth_mm)[known]) if known.any() else np.nan)
        if side == "left":
            picture = [scene.image(side, name), coloured(depth_mm, *limits(depth_mm)), coloured(confidence, 0, 1)]
            write_rgb(out / f"{name}.png", beside(picture))
    return float(np.nanmean(shares)), float(np.nanmean(sigmas))


def _judge(pair: Pair, own: Disparity, other: Disparity) -> _Judged:
    """Keep what the other eye confirms, and say how far to trust it.

    Args:
        pair: images and masks of the reference eye and the other one.
        own, other: dense disparities of the two.
    """
    reference = pair.reference
    difference_px = disagreement(own.disparity_px, other.disparity_px)
    partner_tissue = sample_other(pair.other.tissue.astype(np.float32), own.disparity_px, outside=0.0) > 0.5
    partner_usable = sample_other(pair.other.usable.astype(np.float32), own.disparity_px, outside=0.0) > 0.5
    with np.errstate(invalid="ignore"):
        known = reference.tissue & partner_tissue & (difference_px <= _AGREE_PX)
    known = _without_speckles(own.disparity_px, known)
    usable = reference.usable & partner_usable
    # half the difference of two estimates is the deviation of their mean
    sigma_px = np.sqrt(own.sigma_px**2 + (0.5 * difference_px) ** 2 + _FLOOR_PX**2) * np.where(usable, 1.0, 2.0)
    agreement = np.exp(-0.5 * (difference_px / (0.5 * _AGREE_PX)) ** 2)
    texture = 1.0 / (1.0 + (own.sigma_px / 0.4) ** 2)
    doubts = np.where(own.unique, 1.0, 0.7) * np.where(usable, 1.0, 0.3)
    confidence = np.where(known, agreement * texture * doubts, 0.0)
    return _Judged(
        np.where(known, own.disparity_px, np.nan).astype(np.float32),
        np.where(known, sigma_px, np.nan).astype(np.float32),
        confidence.astype(np.float32),
    )


def _without_speckles(disparity_px: Map, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drop small patches whose disparity differs from all around them."""
    if not known.any():
        return known
    lowest = float(disparity_px[known].min())
    steps = np.where(known, np.rint(16 * (disparity_px - lowest)) + 16, 0)
    fixed = np.clip(steps, 0, np.iinfo(np.int16).max).astype(np.int16)
    cv2.filterSpeckles(fixed, 0, max(4, round(_SPECKLE_SHARE * known.size)), round(16 * _SPECKLE_STEP_PX))
    return np.asarray(known & (fixed > 0))


def _in_original(rectification: Rectification, side: Side, maps: _Judged) -> tuple[Map, Map, Map]:
    """Return depth mm, sigma mm and confidence in the original pixels of one eye."""
    rectified_mm = rectification.depth_from_disparity(maps.disparity_px)
    # |dz / dd| / z = z / (f b)
    relative = maps.sigma_px * rectified_mm / (rectification.left.fx * abs(rectification.baseline_mm))
    depth_mm = rectification.unrectify_depth(rectified_mm, side).astype(np.float32)
    sigma_mm = depth_mm * rectification.unrectify_map(relative, side)
    confidence = np.where(np.isfinite(rectified_mm), maps.confidence, np.nan)
    confidence = np.nan_to_num(rectification.unrectify_map(confidence, side), nan=0.0)
    confidence[~np.isfinite(depth_mm)] = 0
    return depth_mm, sigma_mm.astype(np.float32), confidence.astype(np.float32)


STAGE = Stage("stereo", run, StereoOptions, reads=("scene", "matches"), check=check)
