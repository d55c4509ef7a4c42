"""What numbers alone say about posed cameras: mirrored or skewed axes, eyes against their rig, lenses, centres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.axes import VERGED_DEGREES, axes_meeting
from utils.geometry import nearest_rotation, rotation_angle_degrees
from utils.types import Camera, FloatArray, Rig

ORTHONORMAL = 1e-3
BASELINE = 0.02  # relative
RIG_DEGREES = 0.5
FOCAL = 0.005  # relative
STRETCH = 0.01  # relative, of the image's shape
CENTRE_PX = 0.1
_EXACT_PX = 0.02
_HALF_PX = 0.03


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one camera: which check fired, the number it saw, its limit, and words."""

    camera: str
    check: str
    value: float
    limit: float
    words: str


def check_rotations(names: Sequence[str], world_from_camera: FloatArray) -> list[Finding]:
    """Check every placed camera's matrix: rigid, not mirrored, translation in the last column."""
    findings = []
    for name, matrix in zip(names, world_from_camera, strict=True):
        if not np.isfinite(matrix).all():
            continue
        rotation = matrix[:3, :3]
        determinant = float(np.linalg.det(rotation))
        skew = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
        last = float(np.abs(matrix[3] - [0, 0, 0, 1]).max())
        if determinant <= 0:
            words = f"det {determinant:+.3f}: the camera, or the whole world, is mirrored"
            findings.append(Finding(name, "determinant", determinant, 0.0, words))
        if skew > ORTHONORMAL:
            words = f"axes are off orthonormal by {skew:.2g}: a scale or shear in the rotation"
            findings.append(Finding(name, "orthonormal", skew, ORTHONORMAL, words))
        if last > 1e-6:
            words = "the last row is not 0 0 0 1: is the matrix transposed?"
            findings.append(Finding(name, "orthonormal", last, 1e-6, words))
    return findings


def check_rig(
    eyes: Sequence[tuple[str, str]],
    left_and_right: Sequence[tuple[FloatArray, FloatArray]],
    rig: Rig | None,
    *,
    mm: bool,
) -> list[Finding]:
    """Check the two eyes of every frame: axes that meet in front, and the calibrated distance and rotation.

    Args:
        eyes: names of the left and the right camera.
        left_and_right: their `world_from_camera` (4, 4).
        rig: the calibration, if there is one.
        mm: whether lengths are mm.

    Returns:
        Findings, each once for either eye: what lies between two cameras is wrong with one of them.
    """
    findings = []
    for names, (left, right) in zip(eyes, left_and_right, strict=True):
        right_from_left = _relation(left, right)
        if right_from_left is None:
            continue
        seen = _axes(right_from_left)
        if rig is not None and rig.right_from_left is not None:
            seen += _against_rig(right_from_left, rig, mm)
        findings += [
            Finding(name, check, value, limit, f"{words} ({names[0]} and {names[1]})")
            for check, value, limit, words in seen
            for name in names
        ]
    return findings


def _relation(left: FloatArray, right: FloatArray) -> FloatArray | None:
    """Return `right_from_left` (4, 4) with an exact rotation; None where an eye has no usable pose."""
    if not all(np.isfinite(eye).all() and abs(np.linalg.det(eye)) > 1e-9 for eye in (left, right)):
        return None
    right_from_left = np.linalg.solve(right, left)
    right_from_left[:3, :3] = nearest_rotation(right_from_left[:3, :3])
    return right_from_left


def describe_rig(left_and_right: Sequence[tuple[FloatArray, FloatArray]], unit: str) -> list[str]:
    """Say in one line where the axes of the eyes meet, in the median over frames; nothing without two eyes."""
    relations = [_relation(left, right) for left, right in left_and_right]
    meetings = [axes_meeting(relation) for relation in relations if relation is not None]
    if not meetings:
        return []
    degrees, along, gap = np.median(
        [(one.vergence_degrees, one.along_left_mm, one.gap_mm) for one in meetings], axis=0
    )
    line = f"the axes of the eyes are {degrees:.2f} degrees apart"
    if degrees <= VERGED_DEGREES:
        return [f"{line}: nearly parallel"]
    place = "in front of" if along > 0 else "behind"
    return [f"{line} and come closest {abs(along):.4g} ({unit}) {place} the left eye, {gap:.3g} from each other"]


def _axes(right_from_left: FloatArray) -> list[tuple[str, float, float, str]]:
    meeting = axes_meeting(right_from_left)
    if meeting.vergence_degrees <= VERGED_DEGREES or meeting.in_front:
        return []
    nearest = min(meeting.along_left_mm, meeting.along_right_mm)
    words = f"axes {meeting.vergence_degrees:.1f} degrees apart come closest {-nearest:.4g} behind an eye"
    return [("axes", nearest, 0.0, words)]


def _against_rig(right_from_left: FloatArray, rig: Rig, mm: bool) -> list[tuple[str, float, float, str]]:
    assert rig.right_from_left is not None
    found = []
    distance = float(np.linalg.norm(right_from_left[:3, 3]))
    ratio = distance / rig.baseline_mm
    if mm and abs(ratio - 1) > BASELINE:
        words = (
            f"the eyes are {distance:.4g} mm apart, by calibration {rig.baseline_mm:.4g}: a factor of {ratio:.4g}"
        )
        found.append(("scale", abs(ratio - 1), BASELINE, words))
    turned = float(rotation_angle_degrees(right_from_left[:3, :3] @ rig.right_from_left[:3, :3].T))
    if turned > RIG_DEGREES:
        words = f"the right eye is turned by {turned:.2f} degrees from its place in the calibrated rig"
        found.append(("rig", turned, RIG_DEGREES, words))
    direction = right_from_left[:3, 3] @ rig.right_from_left[:3, 3] / max(distance * rig.baseline_mm, 1e-12)
    aside = float(np.degrees(np.arccos(np.clip(direction, -1, 1))))
    if aside > 10 * RIG_DEGREES:
        words = f"the right eye stands {aside:.1f} degrees away from its calibrated direction"
        found.append(("rig", aside, 10 * RIG_DEGREES, words))
    return found


def check_intrinsics(name: str, camera: Camera, calibrated: Camera) -> list[Finding]:
    """Compare a camera with its calibration, brought to its size."""
    stretch = abs(camera.width * calibrated.height / (camera.height * calibrated.width) - 1)
    if stretch > STRETCH:
        words = f"{camera.width}x{camera.height}, another shape than the calibrated "
        words += f"{calibrated.width}x{calibrated.height}"
        return [Finding(name, "size", stretch, STRETCH, words)]
    expected = calibrated.resized(camera.width, camera.height)
    findings = []
    focal = max(abs(camera.fx / expected.fx - 1), abs(camera.fy / expected.fy - 1))
    if focal > FOCAL:
        words = f"focal length ({camera.fx:.2f}, {camera.fy:.2f}) px, "
        words += f"calibrated ({expected.fx:.2f}, {expected.fy:.2f})"
        findings.append(Finding(name, "focal", focal, FOCAL, words))
    off = np.array([camera.cx - expected.cx, camera.cy - expected.cy])
    largest = float(np.abs(off).max())
    if largest <= CENTRE_PX:
        return findings
    words = (
        f"principal point ({camera.cx:.2f}, {camera.cy:.2f}), calibrated ({expected.cx:.2f}, {expected.cy:.2f})"
    )
    if np.abs(np.abs(off) - 0.5).max() < _HALF_PX:
        words += ": half a pixel off, as between formats that count from a pixel's corner and from its centre"
        return [*findings, Finding(name, "half_pixel", largest, CENTRE_PX, words)]
    if centred(camera):
        words += ": forced to the centre of the image"
    return [*findings, Finding(name, "principal_point", largest, CENTRE_PX, words)]


def centred(camera: Camera) -> bool:
    """Whether a principal point is exactly the middle of the image, by either way to count pixels."""
    centre, size = np.array([camera.cx, camera.cy]), np.array([camera.width, camera.height])
    return any(float(np.abs(centre - middle).max()) < _EXACT_PX for middle in (size / 2, (size - 1) / 2))


def excuse(findings: Sequence[Finding], between: Mapping[str, str]) -> list[Finding]:
    """Drop findings about a rig from the eye that nothing else accuses, where something accuses the other eye.

    Args:
        findings: of all checks.
        between: the other eye's camera, of every camera that has one.
    """
    rigs = ("axes", "scale", "rig", "between_eyes")
    alone = {one.camera for one in findings if one.check not in rigs}
    return [
        one
        for one in findings
        if one.check not in rigs or one.camera in alone or between.get(one.camera) not in alone
    ]
