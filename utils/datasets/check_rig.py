"""Check a source's calibration: focal lengths, principal points, how the eyes stand to each other."""

from __future__ import annotations

import numpy as np

from utils.axes import VERGED_DEGREES, axes_meeting
from utils.datasets.source import Finding, Lens, Source
from utils.geometry import invert_rigid
from utils.types import FloatArray, Side

OFF_CENTRE = 0.35  # share of the size by which a principal point may lie off the centre
FOCAL = (0.1, 20.0)  # of the larger side
NOT_SQUARE = 0.2
BASELINE_MM = (0.5, 2000.0)
TERMS = (0, 4, 5, 8, 12, 14)
ORTHONORMAL = 0.02


def check_rig(source: Source) -> list[Finding]:
    """Check the lens of each eye, and how the eyes stand to each other."""
    findings = [line for side, lens in source.lenses.items() for line in _lens(side, lens, source.image_size)]
    if "left" not in source.lenses:
        findings.append(Finding("refuse", "calibration", "the left eye has none"))
    if "right" in source.lenses and source.right_from_left is None:
        do = "give the calibration of both eyes, or leave the right images out"
        findings.append(Finding("refuse", "rig", "two eyes, and nothing says how they stand to each other", do))
    if source.right_from_left is not None:
        findings += _rig(source.right_from_left)
    return findings


def _lens(side: Side, lens: Lens, size: tuple[int, int]) -> list[Finding]:
    what, matrix = f"{side} lens", np.asarray(lens.matrix, float)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or np.abs(matrix[2] - [0, 0, 1]).max() > 1e-6:
        return [Finding("refuse", what, f"no camera matrix: {matrix.round(3).tolist()}")]
    fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    words = f"fx {fx:.2f}, fy {fy:.2f}, centre ({cx:.2f}, {cy:.2f}) px"
    if len(lens.distortion) not in TERMS or not np.isfinite(lens.distortion).all():
        return [Finding("refuse", what, f"{len(lens.distortion)} distortion terms; OpenCV has {TERMS}")]
    if not FOCAL[0] * max(size) < min(fx, fy) <= max(fx, fy) < FOCAL[1] * max(size):
        do = "give the focal length in px of the stored images, not in mm"
        return [Finding("refuse", what, f"{words}: no focal length of {size[0]}x{size[1]} images", do)]
    off = max(abs(cx - (size[0] - 1) / 2) / size[0], abs(cy - (size[1] - 1) / 2) / size[1])
    if off > OFF_CENTRE:
        do = "check that the calibration belongs to images of this size, and the order of its numbers"
        return [Finding("refuse", what, f"{words}: {off:.0%} of the size off the centre", do)]
    if abs(fx / fy - 1) > NOT_SQUARE:
        return [Finding("warn", what, f"{words}: pixels far from square", "check the order of the numbers")]
    terms = f", {len(lens.distortion)} distortion terms" if any(lens.distortion) else ", no distortion"
    return [Finding("ok", what, words + terms)]


def _rig(right_from_left: FloatArray) -> list[Finding]:
    rotation, baseline = right_from_left[:3, :3], float(np.linalg.norm(right_from_left[:3, 3]))
    wrong = rotation_trouble(rotation[None])
    if wrong:
        return [Finding("refuse", "rotation between the eyes", wrong[1], wrong[2])]
    if baseline < BASELINE_MM[0]:
        do = "multiply the translation by 1000" if baseline > 0 else "give both eyes' places"
        words = f"{baseline:.4g} mm: looks like metres" if baseline > 0 else "0 mm"
        return [Finding("refuse", "baseline", words, do)]
    level = "ok" if baseline <= BASELINE_MM[1] else "warn"
    findings = [Finding("ok" if level == "ok" else "warn", "baseline", f"{baseline:.4g} mm")]
    centre = invert_rigid(right_from_left)[:3, 3]
    if centre[0] <= 0:
        words = f"the right eye stands {-centre[0]:.4g} mm to the left of the left one"
        do = "check that left and right are not exchanged, and that the translation goes from left to right"
        findings.append(Finding("warn", "order of the eyes", words, do))
    meeting = axes_meeting(right_from_left)
    words = f"{meeting.vergence_degrees:.2f} degrees apart"
    if meeting.vergence_degrees > VERGED_DEGREES and not meeting.in_front:
        do = "transpose the rotation (MATLAB writes it so), or turn the translation round"
        return [*findings, Finding("refuse", "optical axes", f"{words}, they meet behind the eyes", do)]
    return [*findings, Finding("ok", "optical axes", words)]


def rotation_trouble(rotations: FloatArray) -> tuple[int, str, str] | None:
    """Return which of (n, 3, 3) is the first that is no rotation, what is wrong, what to do; None: all are."""
    skew = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2))
    mirrored = np.linalg.det(rotations) < 0
    for wrong, words, do in (
        (skew > ORTHONORMAL, "axes that are not orthonormal", "write rotations without scale or shear"),
        (
            mirrored,
            "determinant -1: a mirrored world",
            "negate the axis that was flipped: x right, y down, z forward",
        ),
    ):
        if wrong.any():
            return int(np.argmax(wrong)), words, do
    return None
