"""Judge a stereo calibration by the matches of any matcher: rows, order of the eyes, plausible distances."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np

from stereo_prior.rectification import Rectification
from utils.errors import InputError
from utils.geometry import FloatArray, invert_rigid, rigid
from utils.types import BoolArray, Rig

WARN_ROW_PX, REFUSE_ROW_PX = 1.0, 5.0
FEWEST_MATCHES = 30
_AT_MOST = 4000  # pooled matches that the consensus looks at
_CONSENSUS_PX = 1.5
_DEPTH_PER_BASELINE = (0.5, 2000.0)
_DEPTH_MM = (2.0, 50_000.0)

Verdict = Literal["good", "warn", "refuse", "unknown"]


@dataclass(frozen=True)
class Check:
    """One line of the calibration report: what was found, what was expected, what to do."""

    check: str
    verdict: Verdict
    found: str
    expected: str
    do: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json` can write."""
        return asdict(self)

    def to_error(self) -> InputError:
        """Return the error that stops a run on this line."""
        return InputError(self.check, found=self.found, expected=self.expected, do=self.do)


@dataclass(frozen=True)
class _Fit:
    """How well a rig explains the matches: median |row difference|, px; share behind; median depth, mm."""

    row_px: float
    behind: float
    depth_mm: float

    @property
    def explains(self) -> bool:
        return self.row_px < REFUSE_ROW_PX / 2 and self.behind < 0.3


def check_calibration(rig: Rig, pixels_left: FloatArray, pixels_right: FloatArray) -> list[Check]:
    """Judge a rig by unfiltered matches, pooled over frames; only their consensus counts.

    Args:
        rig: the calibration in question, two eyes.
        pixels_left, pixels_right: (m, 2) matches in image px, before any filter that uses the calibration.
    """
    consensus = consensus_matches(pixels_left, pixels_right)
    n_consensus = int(consensus.sum())
    if n_consensus < FEWEST_MATCHES:
        return [
            Check(
                "calibration seen through the matches",
                "unknown",
                f"{n_consensus} of {len(pixels_left)} matches that agree with each other",
                f"{FEWEST_MATCHES} and more for a verdict",
                "check the calibration in another way, or give frames with more texture",
            )
        ]
    left, right = pixels_left[consensus], pixels_right[consensus]
    fit = _fit(rig, left, right)
    return [_check_order(rig, fit, left, right), _check_rows(rig, fit, left, right), *_check_distance(rig, fit)]


def consensus_matches(pixels_left: FloatArray, pixels_right: FloatArray) -> BoolArray:
    """Return (m,) bool: matches that one fundamental matrix explains, whatever the calibration says."""
    n_matches = len(pixels_left)
    consensus = np.zeros(n_matches, bool)
    if n_matches < FEWEST_MATCHES:
        return consensus
    sampled = np.sort(np.random.default_rng(0).permutation(n_matches)[:_AT_MOST])
    fundamental, inliers = cv2.findFundamentalMat(
        pixels_left[sampled], pixels_right[sampled], cv2.USAC_MAGSAC, _CONSENSUS_PX, 0.9999, 5000
    )
    if fundamental is not None and inliers is not None:
        consensus[sampled] = np.ravel(inliers) > 0
    return consensus


def _fit(rig: Rig, pixels_left: FloatArray, pixels_right: FloatArray) -> _Fit:
    """Return how well a rig explains matches; a rig that cannot be rectified explains none."""
    try:
        rectification = Rectification.of(rig)
    except InputError:
        return _Fit(float("inf"), 1.0, float("nan"))
    left = rectification.rectify_pixels(pixels_left, "left")
    right = rectification.rectify_pixels(pixels_right, "right")
    known = np.isfinite(left[:, 1] - right[:, 1])
    if known.mean() < 0.5:
        return _Fit(float("inf"), 1.0, float("nan"))
    row_px = float(np.median(np.abs(left[known, 1] - right[known, 1])))
    depth_mm = rectification.depth_from_disparity(left[known, 0] - right[known, 0])
    in_front = np.isfinite(depth_mm)
    middle_mm = float(np.median(depth_mm[in_front])) if in_front.any() else float("nan")
    return _Fit(row_px, float(1.0 - in_front.mean()), middle_mm)


def _check_order(rig: Rig, fit: _Fit, left: FloatArray, right: FloatArray) -> Check:
    """Whether the points lie in front, and whether they would with the eyes exchanged."""
    swapped = _fit(rig, right, left)
    exchanged = swapped.explains and not fit.explains
    found = f"{100 * fit.behind:.0f} % of the matched points behind the cameras, rows {fit.row_px:.2f} px apart"
    expected = "points in front of both eyes, rows less than 1 px apart"
    other_mistake = _hint(rig, left, right) if fit.behind > 0.5 and not exchanged else ""
    if exchanged or (fit.behind > 0.5 and swapped.behind < 0.3 and not other_mistake):
        return Check(
            "the left and right eyes are swapped",
            "refuse",
            f"{found}; with the eyes exchanged {100 * swapped.behind:.0f} % and {swapped.row_px:.2f} px",
            expected,
            "exchange the folders l/ and r/ (and mask_l/, mask_r/); or, where R and T map right to left, "
            "invert them",
        )
    if fit.behind > 0.5:
        do = "check the sign of T, and R, in calib.yaml (X_right = R X_left + T)" + other_mistake
        return Check("most matched points lie behind the cameras", "refuse", found, expected, do)
    return Check("order of the eyes", "good", found, expected)


def _check_rows(rig: Rig, fit: _Fit, left: FloatArray, right: FloatArray) -> Check:
    """Whether matched points lie on equal rows after rectification."""
    found = f"median row difference {fit.row_px:.2f} px after rectification ({len(left)} matches)"
    expected = (
        f"below {WARN_ROW_PX:.0f} px (refused above {REFUSE_ROW_PX:.0f} px, and where a usual mistake explains it)"
    )
    if fit.row_px <= WARN_ROW_PX:
        return Check("rows of the matches", "good", found, expected)
    mistake = _hint(rig, left, right)
    if fit.row_px <= REFUSE_ROW_PX and not mistake:
        do = "depth will be noisy; calibrate again if you can"
        return Check("the calibration is not exact", "warn", found, expected, do)
    # A mistake that explains the matches is one, however small its rotation: depth would be wrong, not noisy.
    do = "correct the calibration, or go on with --allow_bad_calibration" + mistake
    return Check("the calibration does not fit the images", "refuse", found, expected, do)


def _hint(rig: Rig, left: FloatArray, right: FloatArray) -> str:
    """Name a usual mistake that would explain the matches; empty where none does."""
    if rig.right_from_left is None:
        return ""
    rotation, translation = rig.right_from_left[:3, :3], rig.right_from_left[:3, 3]
    usual = {
        "R is transposed, as MATLAB writes it: --rotation_convention matlab": rigid(rotation.T, translation),
        "R and T map right to left instead of left to right: invert them": invert_rigid(rig.right_from_left),
        "T has the wrong sign": rigid(rotation, -translation),
    }
    before = _fit(rig, left, right)
    for words, right_from_left in usual.items():
        other = _fit(replace(rig, right_from_left=right_from_left), left, right)
        if (
            other.explains
            and other.row_px <= WARN_ROW_PX
            and not (before.explains and other.row_px > before.row_px / 2)
        ):
            return f". It fits ({other.row_px:.2f} px) if {words}"
    return ""


def _check_distance(rig: Rig, fit: _Fit) -> list[Check]:
    """Whether distances are plausible in mm and beside the baseline."""
    if not np.isfinite(fit.depth_mm):
        return []
    ratio = fit.depth_mm / rig.baseline_mm
    found = f"median depth {fit.depth_mm:.4g} mm, baseline {rig.baseline_mm:.4g} mm, ratio {ratio:.3g}"
    low, high = _DEPTH_PER_BASELINE
    nearest, farthest = _DEPTH_MM
    expected = f"a depth of {nearest:g} to {farthest:g} mm, {low:g} to {high:g} times the baseline"
    if low <= ratio <= high and nearest <= fit.depth_mm <= farthest:
        return [Check("distances", "good", found, expected)]
    do = "T must be in mm: a calibration in metres has to be multiplied by 1000"
    return [Check("the distances are not plausible", "warn", found, expected, do)]
