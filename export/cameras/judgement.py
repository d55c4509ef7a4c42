"""Which cameras the images contradict: residuals of pairs, blamed on the camera that explains most of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.cameras.residuals import Residuals
from export.cameras.verdicts import Finding
from utils.types import BoolArray, FloatArray

IntArray = NDArray[np.int64]
SHIFT_PX = 0.3
FINE_WIDTH = 640  # px; in wider images features are placed and lenses corrected no better
FEWEST_PAIRS = 4  # whose shifts must agree
ABOVE_OTHERS = 3.0  # times the typical shift of the set, which is that of poses and depth


@dataclass(frozen=True)
class Measure:
    """One number of `Residuals`, its limit, on which side of it a pair is bad, and what a finding says."""

    check: str
    limit: float
    words: str
    below: bool = False

    def bad(self, values: FloatArray) -> BoolArray:
        """Return where values are on the wrong side; not where they are unknown."""
        with np.errstate(invalid="ignore"):
            return np.asarray(values < self.limit if self.below else values > self.limit)


def measures_for(width: float) -> dict[str, Measure]:
    """Return the measures by their field of `Residuals`, with limits for images of a width, px."""
    px = max(1.0, width / FINE_WIDTH)
    behind = "only {:.0%} of the matches lie in front of both cameras"
    return {
        "epipolar_px": Measure("epipolar", 1.0 * px, "matches lie {:.2f} px off their epipolar lines"),
        "in_front": Measure("in_front", 0.75, behind, below=True),
        "reprojection_px": Measure("reprojection", 2.0 * px, "matches carried through depth land {:.2f} px off"),
        "warp": Measure("warp", 0.75, "neighbours fetched through depth look different (1 - correlation {:.2f})"),
        "depth": Measure("depth", 0.05, "depth differs by {:.1%} from that of neighbours"),
    }


@dataclass(frozen=True)
class Judged:
    """Per camera: the typical value of each measure, NaN unknown; the number of pairs; and what is wrong."""

    limits: dict[str, float]
    values: dict[str, FloatArray]
    shift_px: FloatArray
    n_pairs: tuple[int, ...]
    accused: BoolArray
    findings: list[Finding]


def judge(
    names: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    seen: Sequence[Residuals],
    eyes: Sequence[tuple[int, int]],
    measures: Mapping[str, Measure],
) -> Judged:
    """Say which cameras images contradict.

    What a pair shows is blamed on the camera most of whose pairs are bad; its pairs are then set aside before
    the next camera is looked at, so that one wrong camera does not accuse its neighbours.

    Args:
        names: of the cameras.
        pairs, seen: the cameras of every pair (indices), and what was measured.
        eyes: the left and the right camera of every frame that has both.
        measures: by field of `Residuals`.
    """
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    values, findings, accused = {}, [], np.zeros(len(names), bool)
    for field, measure in measures.items():
        found, values[field] = blame(ends, _of_pairs(seen, field), measure, len(names))
        accused |= found
        for index in np.flatnonzero(found).tolist():
            value = float(values[field][index])
            words = (
                measure.words.format(value) if np.isfinite(value) else "matches carried through depth land behind"
            )
            findings.append(Finding(names[index], measure.check, value, measure.limit, words))
    shifts, sure = _shifts(ends, seen, accused, len(names))
    for index in np.flatnonzero(sure & ~accused).tolist():
        column, row = shifts[index]
        words = f"what neighbours show lands ({column:+.2f}, {row:+.2f}) px off: a shifted principal point?"
        findings.append(Finding(names[index], "shift", float(np.hypot(column, row)), SHIFT_PX, words))
    findings += _between_eyes(names, ends, seen, accused, eyes, measures)
    counts = tuple(np.bincount(ends.ravel(), minlength=len(names)).tolist())
    limits = {field: measure.limit for field, measure in measures.items()}
    return Judged(limits, values, shifts, counts, accused, findings)


def _of_pairs(seen: Sequence[Residuals], field: str) -> FloatArray:
    return np.array([getattr(one, field) for one in seen], float)


def _between_eyes(
    names: Sequence[str],
    ends: IntArray,
    seen: Sequence[Residuals],
    accused: BoolArray,
    eyes: Sequence[tuple[int, int]],
    measures: Mapping[str, Measure],
) -> list[Finding]:
    """Report eyes of one frame that contradict each other while each agrees with its own neighbours."""
    findings = []
    for (a, b), one in zip(ends.tolist(), seen, strict=True):
        if (a, b) not in eyes or accused[a] or accused[b]:
            continue
        for field in ("epipolar_px", "reprojection_px"):
            measure, value = measures[field], float(getattr(one, field))
            if value > measure.limit:
                words = (
                    f"{measure.words.format(value)} between {names[a]} and {names[b]}, which fit their neighbours"
                )
                findings += [Finding(names[k], "between_eyes", value, measure.limit, words) for k in (a, b)]
                break
    return findings


def blame(ends: IntArray, of_pairs: FloatArray, measure: Measure, count: int) -> tuple[BoolArray, FloatArray]:
    """Return (count,) which cameras are wrong, and (count,) the median of each over pairs with right ones.

    Args:
        ends: (m, 2) the cameras of every pair.
        of_pairs: (m,) what was measured, NaN unknown.
        measure: what is bad.
        count: how many cameras there are.
    """
    known, bad = ~np.isnan(of_pairs), measure.bad(of_pairs)
    whole = _share(ends, bad, known, count) > 0.5
    accused = np.zeros(count, bool)
    while True:
        fair = known & ~accused[ends].any(axis=1)
        share = _share(ends, bad, fair, count)
        worst = int(np.argmax(share))
        if share[worst] <= 0.5:
            break
        accused[worst] = True
    if 2 * accused.sum() > len(np.unique(ends[known])):
        accused = whole  # most of the set is wrong: nobody can be excused by the others
    else:
        accused |= whole & ~np.isin(np.arange(count), ends[fair])  # no right neighbour excuses them
    typical = np.full(count, np.nan)
    for index in range(count):
        mine = (ends == index).any(axis=1) & known
        fair = mine & ~(accused[ends] & (ends != index)).any(axis=1)
        chosen = of_pairs[fair if fair.any() else mine]
        typical[index] = np.median(chosen) if len(chosen) else np.nan
    return accused, typical


def _share(ends: IntArray, bad: BoolArray, counted: BoolArray, count: int) -> FloatArray:
    """Return (count,) the share of bad ones among the counted pairs of every camera; 0 without any."""
    wrong = np.bincount(ends[counted & bad].ravel(), minlength=count)
    return wrong / np.maximum(np.bincount(ends[counted].ravel(), minlength=count), 1)


def _shifts(
    ends: IntArray, seen: Sequence[Residuals], accused: BoolArray, count: int
) -> tuple[FloatArray, BoolArray]:
    """Return the median shift (count, 2), px, of every camera and where the pairs agree that there is one."""
    shifts, sure = np.full((count, 2), np.nan), np.zeros(count, bool)
    for index in range(count):
        own = [
            one.shift_a_px if a == index else one.shift_b_px
            for one, (a, b) in zip(seen, ends, strict=True)
            if index in (a, b) and not accused[b if a == index else a]
        ]
        vectors = np.array([shift for shift in own if np.isfinite(shift).all()]).reshape(-1, 2)
        if len(vectors) < FEWEST_PAIRS:
            continue
        shifts[index] = np.median(vectors, axis=0)
        spread = 1.4826 * np.median(np.abs(vectors - shifts[index]), axis=0)
        size = float(np.hypot(*shifts[index]))
        sure[index] = size > SHIFT_PX and size > 2.0 * float(np.hypot(*spread))
    sizes = np.hypot(*shifts.T)
    known = np.isfinite(sizes)
    if known.any():
        sure &= sizes > ABOVE_OTHERS * np.median(sizes[known])
    return shifts, sure
