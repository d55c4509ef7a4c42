"""Colour as the published codes score it: pooled or by frame, whole frame or tissue, three SSIMs, LPIPS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from skimage.metrics import structural_similarity

from evaluation.image_metrics import SSIM_WINDOW_PX, gaussian_mean, similarity
from evaluation.lpips_backbones import ALEX, Backbone
from evaluation.protocols.scored_run import WHOLE, Crop, Pair, Refused, ScoredRun
from utils.types import FloatArray

_REACH_PX = SSIM_WINDOW_PX // 2
_FLOAT_RANGE = 2.0  # what compare_ssim of scikit-image 0.15 takes as the range of float images: -1 to 1

Ssim = Literal["zero_padded", "unpadded", "scikit-image"]


@dataclass(frozen=True)
class Rule:
    """How one code turns pairs of images into numbers.

    Args:
        crop: what is cut off first.
        masked: whether both images are made black outside the tissue first.
        pooled: one PSNR from the squared error of all frames together, not the mean of one PSNR a frame.
        tissue_only: PSNR divides the error of masked images by the pixels of the tissue, not of the frame.
        tissue_too: whether `psnr_tissue` is told beside a whole-frame `psnr`.
        ssim: which SSIM; always the mean over the whole (cropped) frame.
        net: backbone of LPIPS.
        rescaled: whether LPIPS gets [-1, 1], for which it was made, or [0, 1].
    """

    crop: Crop = WHOLE
    masked: bool = True
    pooled: bool = False
    tissue_only: bool = False
    tissue_too: bool = False
    ssim: Ssim = "zero_padded"
    net: Backbone = ALEX
    rescaled: bool = True

    @property
    def psnr_of(self) -> str:
        """What `psnr` is of, in words; a masked frame is a whole one that is black outside the tissue."""
        whole = "masked frame" if self.masked else "whole frame"
        return f"{'tissue' if self.tissue_only else whole}, {'pooled' if self.pooled else 'by frame'}"


@dataclass(frozen=True)
class Squares:
    """The sum of squared differences over the three channels of one frame, and how many pixels may divide it."""

    total: float
    pixels: int
    tissue: int


def score_colour(run: ScoredRun, names: Sequence[str], rule: Rule) -> tuple[dict[str, Any], dict[str, str]]:
    """Return psnr (dB), ssim, lpips, tissue_share, psnr_of (and psnr_tissue), and what was left out -> why.

    Raises:
        Refused: a frame was not rendered, or is too small for the window of SSIM.
    """
    run.require_renders(names)
    if rule.crop.rows is not None and rule.crop.rows >= run.scene.rig.left.height:
        rule = replace(rule, crop=replace(rule.crop, rows=None))  # nothing to cut: share what others computed
    _require_size(run, rule)
    squares = [_squares_of(run, name, rule) for name in names]
    numbers = {"psnr": psnr(squares, pooled=rule.pooled, tissue_only=rule.tissue_only)}
    if rule.tissue_too:
        numbers["psnr_tissue"] = psnr(squares, pooled=rule.pooled, tissue_only=True)
    numbers["ssim"] = float(np.mean([_ssim_of(run, name, rule) for name in names]))
    left_out = {
        key: "images agree exactly, or show no tissue" for key, value in numbers.items() if not np.isfinite(value)
    }
    distance, why = _mean_lpips(run, names, rule)
    if why:
        left_out["lpips"] = why
    else:
        numbers["lpips"] = distance
    numbers["tissue_share"] = sum(one.tissue for one in squares) / sum(one.pixels for one in squares)
    kept = {key: value for key, value in numbers.items() if key not in left_out}
    return kept | {"psnr_of": rule.psnr_of}, left_out


def psnr(squares: Sequence[Squares], *, pooled: bool, tissue_only: bool) -> float:
    """Return -10 log10 of the mean squared error, dB: of all frames at once, or the mean of one a frame.

    Where both images are black outside the tissue, the whole frame gives 10 log10(pixels / tissue) dB more than
    the tissue alone. The mean of logarithms is never below the logarithm of the mean: a PSNR a frame is never
    below the pooled one.
    """

    def of(some: Sequence[Squares]) -> float:
        divisor = 3 * sum(one.tissue if tissue_only else one.pixels for one in some)
        total = sum(one.total for one in some)
        return -10 * float(np.log10(total / divisor)) if total and divisor else float("inf")

    return of(squares) if pooled else float(np.mean([of([one]) for one in squares]))


def _squares_of(run: ScoredRun, name: str, rule: Rule) -> Squares:
    def work() -> Squares:
        pair = _pair(run, name, rule)
        difference = pair.rendered.astype(np.float64) - pair.recorded
        return Squares(float(np.sum(difference**2)), pair.tissue.size, int(pair.tissue.sum()))

    return run.once((name, rule.crop, rule.masked), work)


def _pair(run: ScoredRun, name: str, rule: Rule) -> Pair:
    pair = run.pair(name, rule.crop)
    return pair.masked() if rule.masked else pair


def _ssim_of(run: ScoredRun, name: str, rule: Rule) -> float:
    key = (name, rule.crop, rule.masked, rule.ssim)
    return run.once(key, lambda: ssim(rule.ssim, _pair(run, name, rule)))


def ssim(kind: Ssim, pair: Pair) -> float:
    """Return the mean structural similarity of two images by one of the three ways in use.

    `zero_padded`: Gaussian window of 11 px, what lies outside the image counts as black (both agree there).
    `unpadded`: the same window, only where it lies inside the image: the outer 5 px have no value of their own.
    `scikit-image`: `compare_ssim` of 0.15 without arguments on float images: uniform window of 7 px, sample
    covariance, and a range of 2 where images reach from 0 to 1, which makes the constants four times as large.
    """
    if kind == "scikit-image":
        images = pair.rendered, pair.recorded
        return float(structural_similarity(*images, data_range=_FLOAT_RANGE, channel_axis=-1))
    means: dict[str, Callable[[FloatArray], FloatArray]] = {"zero_padded": _zero_padded, "unpadded": _unpadded}
    return float(similarity(pair.rendered, pair.recorded, means[kind]).mean(dtype=np.float64))


def _zero_padded(values: FloatArray) -> FloatArray:
    width = _REACH_PX
    return _unpadded(np.pad(values, ((width, width), (width, width), (0, 0))))


def _unpadded(values: FloatArray) -> FloatArray:
    return gaussian_mean(values)[_REACH_PX:-_REACH_PX, _REACH_PX:-_REACH_PX]


def _mean_lpips(run: ScoredRun, names: Sequence[str], rule: Rule) -> tuple[float, str]:
    """Return the mean distance of whole images, or zero and why there is none."""
    smallest = rule.net.smallest_px
    if min(_size(run, rule)) < smallest:
        return 0.0, f"LPIPS needs images of {smallest} px or more each way"
    model, why = run.lpips(rule.net)
    if model is None:
        return 0.0, why

    def distance(name: str) -> float:
        pair = _pair(run, name, rule)
        return model.distance(pair.rendered, pair.recorded, rescaled=rule.rescaled)

    key = (rule.crop, rule.masked, rule.net.name, rule.rescaled)
    return float(np.mean([run.once((name, key), partial(distance, name)) for name in names])), ""


def _size(run: ScoredRun, rule: Rule) -> tuple[int, int]:
    camera = run.scene.rig.left
    return camera.width - rule.crop.columns, min(camera.height, rule.crop.rows or camera.height)


def _require_size(run: ScoredRun, rule: Rule) -> None:
    width, height = _size(run, rule)
    if min(width, height) < SSIM_WINDOW_PX:
        raise Refused(f"images of {width} x {height} px are smaller than the window of SSIM, {SSIM_WINDOW_PX} px")
