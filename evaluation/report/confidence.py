"""The report's section on confidence: whether stated errors match the real ones, with curves and in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from evaluation.report.html import absent, figure, listed, percent
from evaluation.report.pixels import Pixels
from evaluation.report.plot import Line, bin_chart, reliability_chart
from utils.types import FloatArray

FEWEST_PIXELS = 500
_MEDIAN_OF_NORMAL = 0.6745  # median of the absolute value of a normal variable of deviation 1
_BINS = 10
_MOST_BEYOND = 0.05  # of all pixels, wrong by more than three sigma
_FEWEST_SHARE = 0.002  # of all pixels, in a bin that is shown


@dataclass(frozen=True)
class Honesty:
    """How stated standard deviations compare with real errors.

    `factor` is the typical error over the stated one (1 honest, above 1 too sure); `within_1`, `within_2` and
    `beyond_3` are shares of pixels by their error in stated deviations (68 %, 95 %, 0.3 % of a normal variable).
    """

    factor: float
    within_1: float
    within_2: float
    beyond_3: float

    @property
    def words(self) -> str:
        """The verdict in words."""
        if self.factor > 2:
            return f"too sure: errors are typically {self.factor:.1f} times what is stated"
        if self.factor < 0.5:
            return f"too careful: errors are typically {self.factor:.2g} times what is stated"
        kind = "honest" if self.announced else "honest for most pixels, outliers apart"
        return f"{kind}: errors are typically {self.factor:.2f} times what is stated"

    @property
    def announced(self) -> bool:
        """Whether few pixels are far more wrong than stated."""
        return self.beyond_3 <= _MOST_BEYOND


def honesty(pixels: Pixels | None) -> Honesty | None:
    """Return how honest the prior's sigma is; None where there is too little to tell."""
    if pixels is None:
        return None
    sigma = pixels.prior_sigma_mm
    doubt = np.abs(pixels.prior_mm - pixels.truth_mm) / np.where(sigma > 0, sigma, np.nan)
    doubt = doubt[np.isfinite(doubt)]
    if doubt.size < FEWEST_PIXELS:
        return None
    shares = [float(np.mean(doubt <= limit)) for limit in (1.0, 2.0, 3.0)]
    return Honesty(float(np.median(doubt)) / _MEDIAN_OF_NORMAL, shares[0], shares[1], 1.0 - shares[2])


def rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Return Spearman's rank correlation of two samples (n,); NaN where one of them does not vary."""
    a, b = rankdata(first), rankdata(second)
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def confidence_body(pixels: Pixels | None, why_not: str, where: str) -> str:
    """Return the section.

    Args:
        pixels: pooled pixels, or None where there is no truth.
        why_not: the reason to give in that case.
        where: which pixels these are, in words.
    """
    judged = honesty(pixels)
    if pixels is None or judged is None:
        return absent(why_not if pixels is None else "too few pixels have a stated error and a truth")
    few = "a few" if judged.announced else "many"
    words = [
        f"The prior's stated error (sigma) is {judged.words}. {percent(judged.within_1, 0)} of the pixels lie "
        f"within one sigma and {percent(judged.within_2, 0)} within two; a normal distribution has 68 % and 95 %.",
        f"{percent(judged.beyond_3)} of the pixels are wrong by more than three sigma (0.3 % of a normal "
        "distribution): "
        + ("outliers are announced." if judged.beyond_3 < 0.01 else f"{few} outliers are not announced."),
        *_order(pixels),
    ]
    charts = [_sigma_chart(pixels, where), _confidence_chart(pixels)]
    return listed(words) + '<div class="pair">' + "".join(charts) + "</div>"


def _order(pixels: Pixels) -> list[str]:
    """Say how well each measure of doubt puts the pixels in the order of their errors."""
    found = []
    for name, doubt, depth in (
        ("the prior's sigma", pixels.prior_sigma_mm / pixels.prior_mm, pixels.prior_mm),
        ("the prior's confidence", -pixels.prior_confidence, pixels.prior_mm),
        ("the field's spread", pixels.field_spread_mm / pixels.field_mm, pixels.field_mm),
    ):
        error = pixels.relative_error(depth)
        both = np.isfinite(doubt) & np.isfinite(error)
        order = rank_correlation(doubt[both], error[both]) if both.sum() >= FEWEST_PIXELS else float("nan")
        if np.isfinite(order):
            found.append(f"{name} {order:.2f}")
    if not found:
        return []
    return [f"Rank correlation with the real error (1 would be a perfect order, 0 none): {', '.join(found)}."]


def _sigma_chart(pixels: Pixels, where: str) -> str:
    """Draw the real error over the stated one, in tenths of the pixels."""
    sigma = 100 * pixels.prior_sigma_mm / pixels.prior_mm
    error = 100 * pixels.relative_error(pixels.prior_mm)
    both = np.isfinite(sigma) & np.isfinite(error) & (sigma > 0)
    sigma, error = sigma[both], error[both]
    parts = np.array_split(np.argsort(sigma, kind="stable"), _BINS)
    stated = np.array([np.median(sigma[part]) for part in parts])
    typical = np.array([np.median(error[part]) / _MEDIAN_OF_NORMAL for part in parts])
    rms = np.array([np.sqrt(np.mean(error[part] ** 2)) for part in parts])
    lines = [(Line("typical error", "first", typical), stated), (Line("rms error", "second", rms), stated)]
    chart = reliability_chart(lines, across="stated sigma, % of depth", what="Real error of the prior, % of depth")
    return figure(
        chart,
        f"Pixels of {where} in ten groups of rising stated error. On the diagonal the stated error is the real "
        "one; above it the prior is too sure, below it too careful. The strip is a factor of two. Typical error: "
        "median / 0.6745; rms counts outliers in full.",
    )


def _confidence_chart(pixels: Pixels) -> str:
    """Draw the error over the stated confidence, in ten bins."""
    error = 100 * pixels.relative_error(pixels.prior_mm)
    both = np.isfinite(pixels.prior_confidence) & np.isfinite(error)
    confidence, error = pixels.prior_confidence[both], error[both]
    edges = np.linspace(0, 1, _BINS + 1)
    places = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    shares = np.bincount(places, minlength=_BINS) / max(len(places), 1)
    values = np.full((2, _BINS), np.nan)
    for index in np.flatnonzero(shares >= _FEWEST_SHARE):
        values[:, index] = np.percentile(error[places == index], [50, 90])
    lines = [Line("median", "first", values[0]), Line("90 % are below", "second", values[1])]
    chart = bin_chart(lines, shares, edges, across="stated confidence", what="Error of the prior, % of depth")
    return figure(
        chart,
        f"The same pixels by their stated confidence (0 worst, 1 best). Where confidence means something, the "
        f"curves fall to the right. Bars: share of the pixels; bins below {percent(_FEWEST_SHARE)} have no mark.",
    )
