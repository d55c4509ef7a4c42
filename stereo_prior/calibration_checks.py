"""Check a calibration before anything expensive: one report, each line with found, expected and what to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stereo_prior.calibration import Calibration
from utils.axes import VERGED_DEGREES, axes_meeting
from utils.errors import InputError
from utils.geometry import nearest_rotation, rigid, rotation_angle_degrees
from utils.types import FloatArray, Side

log = logging.getLogger("specula")

ORTHONORMAL_TOLERANCE = 0.05  # Frobenius; two printed digits stay below 0.015
SMALLEST_BASELINE_MM = 0.5
LARGEST_BASELINE_MM = 2000.0
OFF_CENTRE = 0.35  # share of the size by which a principal point may lie off the centre

Level = Literal["ok", "warn", "refuse"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Level
    what: str
    found: str
    expected: str
    do: str = ""

    def line(self) -> str:
        """Return the finding as one line of text."""
        rest = f"; {self.do}" if self.do and self.level != "ok" else ""
        return f"[{self.level}] {self.what}: {self.found} (expected: {self.expected}){rest}"


def check_calibration(
    calibration: Calibration,
    sizes: Mapping[Side, tuple[int, int]],
    cuts: Mapping[Side, int],
    *,
    rectified: bool,
) -> list[Finding]:
    """Return the report on a calibration.

    Args:
        calibration: as read.
        sizes: (width, height) of the stored images of each eye that takes part.
        cuts: columns cut off the left of those images, px.
        rectified: whether the images are said to be rectified.
    """
    findings = []
    for side, size in sizes.items():
        findings += _check_eye(calibration, side, size, cuts[side], rectified=rectified)
    if calibration.rotation is not None and calibration.translation_mm is not None:
        rotation = _check_rotation(calibration.rotation)
        findings += [*rotation, _check_baseline(calibration.source, calibration.translation_mm)]
        if all(finding.level != "refuse" for finding in findings):
            findings += [_check_axes(calibration), _check_order(calibration)]
            if rectified and "right" in sizes:
                findings.append(_check_rectified(calibration))
    return findings


def raise_refusals(findings: Sequence[Finding]) -> list[str]:
    """Return the report's lines, or refuse.

    Raises:
        InputError: the first finding of level `refuse`; the others are logged.
    """
    refused = [finding for finding in findings if finding.level == "refuse"]
    for finding in refused[1:]:
        if (finding.found, finding.expected) != (refused[0].found, refused[0].expected):  # the same of both eyes
            log.error("calibration: %s", finding.line())
    for finding in refused:
        raise InputError(finding.what, found=finding.found, expected=finding.expected, do=finding.do)
    return [finding.line() for finding in findings]


def _check_eye(
    calibration: Calibration, side: Side, size: tuple[int, int], cut_px: int, *, rectified: bool
) -> list[Finding]:
    """Compare one eye's matrix with the size of its images."""
    eye = calibration.intrinsics(side)
    assert eye is not None
    stored = (size[0] + cut_px, size[1])
    cut = f" ({size[0]}x{size[1]} and {cut_px} px cut off)" if cut_px else ""
    found = f"{stored[0]}x{stored[1]}{cut}"
    source, expected = calibration.source, calibration.image_size
    findings = []
    if expected is not None and stored != expected:
        findings.append(
            Finding(
                "refuse",
                f"{source} was made for images of another size than the {side} ones",
                found,
                f"{expected[0]}x{expected[1]}, its image_size",
                f"use the images that were calibrated, or scale M and image_size in {source} to {found}",
            )
        )
    elif expected is not None:
        findings.append(Finding("ok", f"size of the {side} images", found, f"image_size of {source}"))
    fx, fy = float(eye.matrix[0, 0]), float(eye.matrix[1, 1])
    if min(fx, fy) < 0.1 * max(stored):
        findings.append(
            Finding(
                "refuse",
                f"focal length of the {side} eye in {source}",
                f"fx {fx:.4g}, fy {fy:.4g} for images of {found}",
                f"px, at least {0.1 * max(stored):.0f}",
                "give the focal length in px of the stored images, not in mm",
            )
        )
    centre = (float(eye.matrix[0, 2]), float(eye.matrix[1, 2]))
    findings.append(_check_centre(calibration, side, centre, stored, rectified=rectified))
    return findings


def _check_centre(
    calibration: Calibration,
    side: Side,
    centre: tuple[float, float],
    stored: tuple[int, int],
    *,
    rectified: bool,
) -> Finding:
    """Compare the principal point with the image's centre; only a hint where image_size is known."""
    off = [abs(c - (length - 1) / 2) / length for c, length in zip(centre, stored, strict=True)]
    what = f"principal point of the {side} eye in {calibration.source}"
    found = f"({centre[0]:.2f}, {centre[1]:.2f}) in images of {stored[0]}x{stored[1]}"
    expected = f"within {OFF_CENTRE:.0%} of the size from the centre"
    if max(off) <= OFF_CENTRE:
        return Finding("ok", what, found, expected)
    # rectifying a verged rig legitimately moves the principal point far out
    level: Level = "warn" if calibration.image_size is not None or rectified else "refuse"
    do = "check that the calibration belongs to images of this size"
    if level == "refuse":
        do += "; if it does, write it as calib.yaml with image_size"
    return Finding(level, what, found, expected, do)


def _check_rotation(rotation: FloatArray) -> list[Finding]:
    """Check that R is orthonormal (or can be made so) and does not mirror."""
    distance = float(np.linalg.norm(rotation - nearest_rotation(rotation)))
    determinant = float(np.linalg.det(rotation))
    findings = []
    expected = f"nearest orthonormal matrix within {ORTHONORMAL_TOLERANCE} (Frobenius)"
    if distance > ORTHONORMAL_TOLERANCE:
        findings.append(
            Finding(
                "refuse",
                "R of the calibration is not orthonormal",
                f"{distance:.3g} away from the nearest orthonormal matrix, det {determinant:.4f}",
                expected,
                "write R with all digits, and check that its numbers are in the right order",
            )
        )
    elif distance > 1e-6:
        found = f"{distance:.2g} away from orthonormal, replaced by the nearest rotation"
        findings.append(
            Finding("warn", "R of the calibration was rounded", found, expected, "write R with all digits")
        )
    else:
        findings.append(Finding("ok", "R is orthonormal", f"{distance:.2g} away", expected))
    if determinant <= 0:
        findings.append(
            Finding(
                "refuse",
                "R of the calibration mirrors",
                f"det R = {determinant:+.4f}",
                "det R = +1: a rotation",
                "one axis has its sign flipped: write R as OpenCV's stereoCalibrate gives it",
            )
        )
    return findings


def _check_baseline(source: str, translation_mm: FloatArray) -> Finding:
    """Check that the eyes are apart, and that T is in millimetres."""
    baseline = float(np.linalg.norm(translation_mm))
    expected = f"{SMALLEST_BASELINE_MM} to {LARGEST_BASELINE_MM:.0f} mm"
    if baseline == 0:
        do = "write T as stereoCalibrate gives it, in mm, or keep M1 and D1 alone for one eye"
        return Finding("refuse", f"the baseline is zero ({source})", "T = (0, 0, 0)", expected, do)
    found = f"|T| = {baseline:.5g}"
    if baseline < SMALLEST_BASELINE_MM:
        do = f"multiply T by 1000: it looks like metres ({baseline * 1000:.4g} mm)"
        return Finding("refuse", f"the baseline is not in millimetres ({source})", found, expected, do)
    if baseline > LARGEST_BASELINE_MM:
        return Finding("warn", f"the baseline is very long ({source})", found, expected, "check that T is in mm")
    return Finding("ok", "baseline", f"{baseline:.4g} mm", expected)


def _check_axes(calibration: Calibration) -> Finding:
    """Check that the axes of a verged rig come closest in front of both eyes."""
    assert calibration.rotation is not None
    assert calibration.translation_mm is not None
    rotation = nearest_rotation(calibration.rotation)
    meeting = axes_meeting(rigid(rotation, calibration.translation_mm))
    expected = f"in front of both eyes above {VERGED_DEGREES:.0f} degrees of vergence"
    if meeting.vergence_degrees <= VERGED_DEGREES:
        return Finding("ok", "optical axes", f"{meeting.vergence_degrees:.2f} degrees apart", expected)
    found = (
        f"{meeting.vergence_degrees:.1f} degrees apart, closest ({meeting.gap_mm:.2f} mm) "
        f"{_place(meeting.along_left_mm)} the left and {_place(meeting.along_right_mm)} the right eye"
    )
    if meeting.in_front:
        return Finding("ok", "optical axes", found, expected)
    other = axes_meeting(rigid(rotation.T, calibration.translation_mm))
    if other.in_front:
        flag = "opencv" if calibration.rotation_convention == "matlab" else "matlab"
        do = (
            f"add `--rotation_convention {flag}`: with R transposed they come closest "
            f"({other.gap_mm:.2f} mm) {_place(other.along_left_mm)} the left eye"
        )
    else:
        do = "check R and T: are left and right exchanged, or is T given from right to left?"
    return Finding("refuse", f"the optical axes meet behind the eyes ({calibration.source})", found, expected, do)


def _check_order(calibration: Calibration) -> Finding:
    """Check that the right eye stands on the right; images that are exchanged show in the matches alone."""
    assert calibration.rotation is not None
    assert calibration.translation_mm is not None
    centre_mm = -nearest_rotation(calibration.rotation).T @ calibration.translation_mm
    found = f"the right eye stands {centre_mm[0]:+.4g} mm along the left eye's x axis"
    level: Level = "ok" if centre_mm[0] > 0 else "warn"
    do = "check that left and right are not exchanged, and that T is -R times the right eye's place"
    return Finding(level, "order of the eyes", found, "a positive number", do)


def _place(along_mm: float) -> str:
    return f"{abs(along_mm):.1f} mm {'in front of' if along_mm > 0 else 'behind'}"


def _check_rectified(calibration: Calibration) -> Finding:
    """Check that rectified images come with the calibration of rectified cameras."""
    assert calibration.right is not None
    assert calibration.rotation is not None
    assert calibration.translation_mm is not None
    angle = float(rotation_angle_degrees(nearest_rotation(calibration.rotation)))
    aside = float(np.linalg.norm(calibration.translation_mm[1:]) / np.linalg.norm(calibration.translation_mm))
    left, right = calibration.left, calibration.right
    lines = float(np.abs(left.matrix[1] - right.matrix[1]).max())
    distorted = any((*left.distortion, *right.distortion))
    found = f"R turns by {angle:.2f} degrees, T is {aside:.1%} off the x axis, rows differ by {lines:.2f} px"
    found += ", D is not zero" if distorted else ""
    expected = "R = identity, T = (-baseline, 0, 0), equal fy and cy, D = 0"
    if angle > 0.5 or aside > 0.02 or lines > 2 or distorted:
        do = "write the calibration of the rectified cameras (P1, P2 of stereoRectify), or use --image_dir images"
        what = f"{calibration.source} does not belong to rectified images"
        return Finding("refuse", what, found, expected, do)
    return Finding("ok", "rectified calibration", found, expected)
