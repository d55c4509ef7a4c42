"""Depth as the published codes score it: their scalings, clip ranges, trimmings and 8-bit files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from evaluation.depth_metrics import depth_errors, known
from utils.types import BoolArray, FloatArray

AFSFM_MM = (1e-3, 150.0)
NERFINGMVS_MM = (100.0, 20_000.0)  # 0.1 to 20 m
EIGHT_BIT_MM = 255.0

_FEWEST_PX = 10  # EndoGaussian leaves out frames with fewer pixels of true depth
_FOLDED_MM = 16  # the square of this no longer fits into 8 bits
_KEPT = "kept"
_POOL_PX = 20_000_000


@dataclass(frozen=True)
class Depths:
    """One frame: predicted and true z-depth (h, w) mm, NaN where unknown, and where there is tissue (h, w)."""

    depth_mm: FloatArray
    truth_depth_mm: FloatArray
    tissue: BoolArray


@dataclass(frozen=True)
class Frames:
    """Frames that are read when they are looked at, one at a time: sequences may be longer than memory."""

    count: int
    read: Callable[[int], Depths]

    def __iter__(self) -> Iterator[Depths]:
        return (self.read(index) for index in range(self.count))


@dataclass(frozen=True)
class Pixels:
    """What is scored of one frame: predictions and truth (n,) mm, and of how many pixels with truth they are."""

    predicted: FloatArray
    truth: FloatArray
    asked: int


def afsfm(frames: Frames) -> dict[str, float]:
    """Score as AF-SfMLearner's evaluate_depth.py does: one median ratio *an image*, 1e-3 mm < truth < 150 mm.

    The whole image counts, tissue or not. Scaled predictions are clipped to the same range, errors are means over
    pixels, then over frames. A ratio an image forgives a scale that drifts from image to image.
    """
    low, high = AFSFM_MM

    def scaled(frame: Depths) -> Pixels:
        pixels = _within(frame, low, high)
        return replace(pixels, predicted=np.clip(pixels.predicted * _ratio([pixels]), low, high))

    return _mean_errors(scaled(frame) for frame in frames)


def nerfingmvs(frames: Frames) -> dict[str, float]:
    """Score as NerfingMVS' depth_evaluation does: one median ratio for all frames, 0.1 m < truth < 20 m.

    The whole image counts. The range was made for rooms: tissue nearer than 100 mm is not scored at all.
    """
    low, high = NERFINGMVS_MM

    def chosen() -> Iterator[Pixels]:
        return (_within(frame, low, high) for frame in frames)

    ratio = _ratio(chosen())
    return _mean_errors(replace(one, predicted=np.clip(one.predicted * ratio, low, high)) for one in chosen())


def upstream_legacy(frames: Frames) -> dict[str, float]:
    """Score as the reference system does, so that its tables can be read; never comparable.

    Of each frame only tissue counts where the prediction lies within its own 5 to 95 % and the truth within its
    2 to 98 %. One median ratio for all frames. Then prediction *and truth* are clamped to the prediction's 2 to
    98 %: a prediction without relief flattens the truth that it is compared with, and scores best of all.
    `kept` is the share of the true pixels on tissue, less their own tails, that is left.
    """

    def chosen() -> Iterator[Pixels]:
        for frame in frames:
            asked = frame.tissue & _trimmed(frame.truth_depth_mm, 2, 98)
            yield _pixels(frame, asked & _trimmed(frame.depth_mm, 5, 95), asked)

    def clamped(pixels: Pixels) -> Pixels:
        predicted = pixels.predicted * ratio
        low, high = np.percentile(predicted, [2, 98]) if len(predicted) else (0.0, 0.0)
        return replace(pixels, predicted=np.clip(predicted, low, high), truth=np.clip(pixels.truth, low, high))

    ratio = _ratio(chosen())
    scores = _mean_errors(clamped(pixels) for pixels in chosen())
    return {_KEPT if key == "coverage" else key: value for key, value in scores.items()}


def endosurf_range_mm(frames: Frames) -> tuple[float, float]:
    """Return EndoSurf's near and far: the 3 and 99.5 % quantiles of the true depth of *all* frames.

    Pixels without truth count as 0, as they are in the files: where more than 3 % are unknown, near is 0. Of
    sequences of more than 20 million pixels evenly spaced ones are taken.
    """
    parts = [np.zeros(0)]
    for frame in frames:
        stride = 1 + frames.count * frame.tissue.size // _POOL_PX
        parts.append(np.where(known(frame.truth_depth_mm), frame.truth_depth_mm, 0).ravel()[::stride])
    near_mm, far_mm = np.percentile(np.concatenate(parts), [3, 99.5])
    return float(near_mm), float(far_mm)


def endosurf_rmse(frames: Frames, near_mm: float, far_mm: float) -> dict[str, float]:
    """Score as EndoSurf's cal_rmse does: raw mm on tissue, pooled over all frames, near < truth < far.

    The farthest and, with dense truth, the nearest pixels are left out, where errors are largest.
    """
    squares, counted, asked, n_frames = 0.0, 0, 0, 0
    for frame in frames:
        pixels = _within(frame, near_mm, far_mm, frame.tissue)
        squares += float(np.sum((pixels.predicted - pixels.truth) ** 2))
        counted, asked = counted + len(pixels.truth), asked + pixels.asked
        n_frames += bool(len(pixels.truth))
    if not counted:
        return {}
    return {"rmse_mm": (squares / counted) ** 0.5, "coverage": counted / asked, "n_frames": n_frames}


def endogaussian_rmse(frames: Frames) -> dict[str, float]:
    """Score as EndoGaussian's render.py and metrics.py do: mm in 8-bit PNGs, mean of one RMSE a frame.

    - Depth is cut to whole millimetres on its way into the PNG; truth is first clipped to its own 3 to 99.8 %,
      and pixels without truth become its 3 % quantile with that. What the field does not know is 0, as there.
    - The sum over tissue is divided by the pixels of the *whole* frame: RMSE times the square root of the tissue's
      share.
    - Differences and squares are taken in 8 bits: of a square the remainder modulo 256 is left. An error of 16 mm
      counts as none, none counts as more than 15.8 mm. `folded` is the share of pixels that this touches.

    Raises:
        ValueError: depth of 256 mm or more, which a PNG of 8 bits does not hold.
    """
    errors, folded = [], []
    for frame in frames:
        true = known(frame.truth_depth_mm)
        if not true.any():
            continue
        low, high = np.percentile(frame.truth_depth_mm[true], [3, 99.8])
        truth = _as_png(np.clip(np.where(true, frame.truth_depth_mm, low), low, high))
        depth = _as_png(np.where(known(frame.depth_mm), frame.depth_mm, 0))
        if np.count_nonzero(truth) < _FEWEST_PX:
            continue
        apart = (depth - truth)[frame.tissue & (truth != 0)].astype(np.int64)
        errors.append(float(np.sqrt(np.sum(apart**2 % 256) / frame.tissue.size)))
        folded.append(float(np.mean(np.abs(apart) >= _FOLDED_MM)) if len(apart) else 0.0)
    if not errors:
        return {}
    return {"rmse_mm": float(np.mean(errors)), "folded": float(np.mean(folded)), "n_frames": len(errors)}


def _as_png(depth_mm: FloatArray) -> FloatArray:
    if depth_mm.max() >= EIGHT_BIT_MM + 1:
        raise ValueError(f"depth of {depth_mm.max():.0f} mm does not fit into 8 bits")
    return np.floor(depth_mm)


def _within(frame: Depths, low: float, high: float, region: BoolArray | None = None) -> Pixels:
    truth = frame.truth_depth_mm
    asked = known(truth) & (truth > low) & (truth < high)
    if region is not None:
        asked &= region
    return _pixels(frame, asked & known(frame.depth_mm), asked)


def _trimmed(depth_mm: FloatArray, low: float, high: float) -> BoolArray:
    """Return where a map lies between two quantiles (per cent) of its own known pixels."""
    where = known(depth_mm)
    if not where.any():
        return where
    bounds = np.percentile(depth_mm[where], [low, high])
    return where & (depth_mm >= bounds[0]) & (depth_mm <= bounds[1])


def _pixels(frame: Depths, inside: BoolArray, asked: BoolArray) -> Pixels:
    predicted, truth = (values[inside].astype(np.float64) for values in (frame.depth_mm, frame.truth_depth_mm))
    return Pixels(predicted, truth, int(asked.sum()))


def _ratio(chosen: Iterable[Pixels]) -> float:
    """Return median truth / median prediction of all pixels together; 1 where there is none.

    Above 20 million pixels every second one is dropped, as often as it takes.
    """
    truth: list[FloatArray] = [np.zeros(0)]
    predicted: list[FloatArray] = [np.zeros(0)]
    stride = 1
    for pixels in chosen:
        truth.append(pixels.truth[::stride])
        predicted.append(pixels.predicted[::stride])
        if sum(map(len, truth)) > _POOL_PX:
            truth, predicted = ([one[::2] for one in parts] for parts in (truth, predicted))
            stride *= 2
    true, guessed = np.concatenate(truth), np.concatenate(predicted)
    return float(np.median(true) / np.median(guessed)) if len(true) else 1.0


def _mean_errors(scored: Iterable[Pixels]) -> dict[str, float]:
    """Return the mean over frames of the seven errors, and the share of the pixels asked for that have any.

    Empty where no frame has a pixel. The codes expect a prediction everywhere: a lower coverage flatters.
    """
    errors, counted, asked = [], 0, 0
    for pixels in scored:
        counted, asked = counted + len(pixels.truth), asked + pixels.asked
        if len(pixels.truth):
            errors.append(depth_errors(pixels.predicted, pixels.truth))
    if not errors:
        return {}
    means = {key: float(np.mean([one[key] for one in errors])) for key in errors[0]}
    return means | {"coverage": counted / asked, "n_frames": len(errors)}
