"""Check masks, their polarity by what lies under them, and depth maps, their unit by what is plausible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from utils.datasets.options import ReaderOptions
from utils.datasets.samples import Sample
from utils.datasets.source import Finding, Source
from utils.types import BoolArray

FloatPair = tuple[float, float]

SMALL_SHARE = 0.4  # of the image that tissue covers in most endoscopic clips at least
ENOUGH = 0.02  # of the image, below which one side of a mask says nothing about its colours
GREYER = 0.08  # difference of saturation and redness (0 to 1) that tells tools from tissue
DARK = 16.0  # grey values
PLAUSIBLE_MM = (3.0, 5000.0)  # of the median depth
ODD = 3.0  # times the median depth of all frames, or this part of it


def check_masks(samples: Sequence[Sample], options: ReaderOptions) -> list[Finding]:
    """Check how much is tissue, and that it looks more like tissue than the rest does."""
    pairs = [
        (sample.frame.name, sample.images[side], tissue)
        for sample in samples
        for side, tissue in sample.tissue.items()
        if side in sample.images and sample.images[side].shape[:2] == tissue.shape
    ]
    if not pairs:
        return [Finding("ok", "masks", "none: all is tissue")]
    shares = [float(tissue.mean()) for _, _, tissue in pairs]
    share = float(np.mean(shares))
    empty = [name for (name, _, _), one in zip(pairs, shares, strict=True) if one == 0]
    findings = [Finding("warn", "masks", f"no tissue at all in frame {', '.join(empty[:5])}")] if empty else []
    return [*findings, _polarity(share, _colours(pairs), options)]


def _colours(pairs: Sequence[tuple[str, NDArray[np.uint8], BoolArray]]) -> tuple[FloatPair, FloatPair, FloatPair]:
    """Return (inside, outside) of saturation, redness and brightness; NaN where one side is too small."""
    inside: list[NDArray[np.float64]] = []
    outside: list[NDArray[np.float64]] = []
    for _, image, tissue in pairs:
        values = np.concatenate([_looks(image), tissue[..., None]], axis=-1)[::2, ::2].reshape(-1, 4)
        inside.append(values[values[:, 3] > 0, :3])
        outside.append(values[values[:, 3] == 0, :3])
    total = sum(map(len, inside)) + sum(map(len, outside))
    looks = []
    for parts in (inside, outside):
        values = np.concatenate(parts)
        lit = values[values[:, 2] > DARK]
        enough = len(values) > ENOUGH * total
        colour = lit[:, :2].mean(axis=0) if enough and len(lit) > ENOUGH * len(values) else np.full(2, np.nan)
        looks.append([*colour, float(np.median(values[:, 2])) if enough else np.nan])
    (s_in, r_in, b_in), (s_out, r_out, b_out) = looks
    return (s_in, s_out), (r_in, r_out), (b_in, b_out)


def _looks(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (h, w, 3): saturation 0 to 1, redness -1 to 1, brightness 0 to 255."""
    values = image.astype(np.float64)
    brightest = values.max(axis=-1)
    safe = np.maximum(brightest, 1.0)
    redness = (values[..., 0] - values[..., 1:].mean(axis=-1)) / safe
    return np.stack([(brightest - values.min(axis=-1)) / safe, redness, brightest], axis=-1)


def _polarity(share: float, looks: tuple[FloatPair, FloatPair, FloatPair], options: ReaderOptions) -> Finding:
    """Judge whether masks say tissue where tissue is; a polarity that the user gave is only warned about."""
    saturation, redness, brightness = looks
    words = f"tissue covers {share:.0%}"
    if not np.isnan([*saturation, *redness]).any():
        words += (
            f"; saturation {saturation[0]:.2f} on it, {saturation[1]:.2f} beside it"
            f", redness {redness[0]:.2f} and {redness[1]:.2f}"
        )
    greyer = saturation[1] - saturation[0] > GREYER and redness[1] - redness[0] > GREYER
    dark = brightness[0] < DARK < 2 * DARK < brightness[1]
    opposite = "turn them round: give --mask_polarity tissue or --mask_polarity tool, what nonzero means"
    said = options.mask_polarity != "auto"
    if dark or (greyer and share < 0.5):
        why = "what is called tissue is dark" if dark else "what is called tissue is grey, the rest is red"
        return Finding("warn" if said else "refuse", "mask polarity", f"{words}: {why}", opposite)
    if share == 0:
        return Finding("refuse", "mask polarity", "no tissue in any frame", opposite)
    if greyer or share < SMALL_SHARE:
        why = "little for an endoscope" if share < SMALL_SHARE else "greyer than the rest"
        return Finding("warn", "mask polarity", f"{words}: {why}", f"look at some, or {opposite}")
    return Finding("ok", "mask polarity", words)


def check_depth(source: Source, samples: Sequence[Sample]) -> list[Finding]:
    """Check how much depth is known, and that it can be millimetres."""
    maps = {s.frame.name: depth for s in samples for side, depth in s.depth_mm.items() if side == "left"}
    maps = maps or {s.frame.name: depth for s in samples for depth in s.depth_mm.values()}
    if not maps:
        return [Finding("ok", "depth", "none: nothing to score depth against")]
    known = float(np.mean([np.isfinite(depth).mean() for depth in maps.values()]))
    medians = {name: float(np.nanmedian(depth)) for name, depth in maps.items() if np.isfinite(depth).any()}
    if not medians:
        return [Finding("refuse", "depth", "no pixel is known in the frames that were opened")]
    median = float(np.median(list(medians.values())))
    words = f"median {median:.4g} mm, {known:.0%} of the pixels known"
    low, high = PLAUSIBLE_MM
    if not low <= median <= high:
        looks = "metres: make --depth_scale 1000 times larger" if median < low else "a fraction of a mm"
        do = f"give mm a unit of the stored depth with --depth_scale; it looks like {looks}"
        return [Finding("refuse", "unit of depth", words, do)]
    findings = [Finding("ok", "unit of depth", words)]
    baseline = None if source.right_from_left is None else float(np.linalg.norm(source.right_from_left[:3, 3]))
    if baseline is not None:
        parallax = source.lenses["left"].matrix[0, 0] * baseline / median
        if not 1.0 <= parallax <= 3 * source.image_size[0]:
            words = f"a baseline of {baseline:.4g} mm would give {parallax:.3g} px of parallax at {median:.4g} mm"
            do = "bring both into mm: --depth_scale, --baseline_mm"
            findings.append(Finding("refuse", "depth against baseline", words, do))
    return [*findings, *odd_depths(medians)]


def odd_depths(medians_mm: Mapping[str, float]) -> list[Finding]:
    """Name the frames whose median depth is far from that of the others: damaged maps, in some public clips."""
    typical = float(np.median(list(medians_mm.values())))
    odd = [name for name, median in medians_mm.items() if not typical / ODD <= median <= typical * ODD]
    if not odd:
        return []
    words = f"{len(odd)} frames are {ODD:g} times nearer or farther than the others: {', '.join(odd[:8])}"
    return [Finding("warn", "depth of single frames", words, "do not score against these maps")]
