"""Hold posed cameras against everything that is known of them, and report camera by camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.camera_set import CameraSet
from export.cameras.changes import Suggestion, suggest_single, suggest_whole
from export.cameras.evidence import Evidence, view_keys
from export.cameras.judgement import Judged, judge, measures_for
from export.cameras.looks import Pair
from export.cameras.residuals import Placed, residuals
from export.cameras.verdicts import (
    Finding,
    centred,
    check_intrinsics,
    check_rig,
    check_rotations,
    describe_rig,
    excuse,
)
from utils.errors import InputError
from utils.types import Camera, FloatArray

_NO_IMAGE = Camera(1.0, 1.0, 0.0, 0.0, 1, 1)  # in the place of a camera that no image asks for


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that was found out about a set of cameras; `notes` say what could not be checked."""

    cameras: CameraSet
    judged: Judged
    findings: list[Finding]
    suggestions: list[Suggestion]
    notes: list[str]

    @property
    def wrong(self) -> list[str]:
        """Names of the cameras with findings, in the order of the set."""
        accused = {finding.camera for finding in self.findings}
        return [name for name in self.cameras.names if name in accused]


def check(cameras: CameraSet, evidence: Evidence, *, suggest: bool = False) -> Report:
    """Check cameras by their numbers, their calibration, and their images.

    Args:
        cameras: the cameras; without intrinsics they take those of the calibration.
        evidence: images, depth, calibration.
        suggest: whether usual mistakes are tried backwards.

    Raises:
        InputError: intrinsics that nobody gives.
    """
    names, poses = cameras.names, cameras.world_from_camera
    placed = Placed(_lenses(cameras, evidence), evidence.to_depth(poses))
    lost = [index for index in range(len(names)) if not placed.usable(index)]
    placed.world_from_camera[lost] = np.nan
    eyes = _eyes(cameras)
    left_and_right = [(poses[left], poses[right]) for left, right in eyes]
    between = [(names[left], names[right]) for left, right in eyes]
    findings = check_rotations(names, poses)
    findings += check_rig(between, left_and_right, evidence.rig, mm=cameras.unit == "mm")
    for name, camera, one in zip(names, cameras.cameras, evidence.looks, strict=True):
        if camera is not None and one is not None and one.calibrated is not None:
            findings += check_intrinsics(name, camera, one.calibrated)
    pairs = [pair for pair in evidence.pairs if placed.usable(pair.a) and placed.usable(pair.b)]
    judged = _judge(names, pairs, placed, evidence, eyes)
    suggestions, words = _suggest(names, pairs, placed, evidence, eyes) if suggest else ([], [])
    return Report(
        cameras,
        judged,
        excuse([*findings, *judged.findings], dict(between) | {right: left for left, right in between}),
        suggestions,
        [*cameras.notes, *evidence.notes, *_notes(cameras, evidence, judged, left_and_right), *words],
    )


def _eyes(cameras: CameraSet) -> list[tuple[int, int]]:
    """Return (left, right) of every frame that has both eyes."""
    keys = view_keys(cameras.names)
    places = {key: index for index, key in enumerate(keys)}
    return [
        (index, places["right", frame])
        for index, (side, frame) in enumerate(keys)
        if side == "left" and ("right", frame) in places
    ]


def _lenses(cameras: CameraSet, evidence: Evidence) -> tuple[Camera, ...]:
    """Return every camera in the px of its image."""
    found = []
    for name, camera, one in zip(cameras.names, cameras.cameras, evidence.looks, strict=True):
        lens = camera or (one.calibrated if one else None)
        if one is not None and lens is None:
            raise InputError(
                f"nobody gives the focal length of {name}",
                found="a file without intrinsics",
                expected="a calibration",
                do="give the run of these images with --run, or a file that holds intrinsics",
            )
        found.append(lens.resized(*one.size) if lens is not None and one is not None else _NO_IMAGE)
    return tuple(found)


def _judge(
    names: Sequence[str],
    pairs: Sequence[Pair],
    placed: Placed,
    evidence: Evidence,
    eyes: Sequence[tuple[int, int]],
) -> Judged:
    """Judge cameras by their images, whose noise grows with their size in px."""
    widths = [one.size[0] for one in evidence.looks if one is not None]
    measures = measures_for(float(np.median(widths)) if widths else 0.0)
    seen = [residuals(pair, placed, evidence.looks) for pair in pairs]
    return judge(names, [(pair.a, pair.b) for pair in pairs], seen, eyes, measures)


def _suggest(
    names: Sequence[str],
    pairs: Sequence[Pair],
    placed: Placed,
    evidence: Evidence,
    eyes: Sequence[tuple[int, int]],
) -> tuple[list[Suggestion], list[str]]:
    """Try changes of all cameras, and, with the best of them made, changes of those that are still accused."""
    if not any(np.isfinite(pair.depth_a).any() or np.isfinite(pair.depth_b).any() for pair in pairs):
        return [], ["nothing can be suggested without depth of images that share what they show: give --run"]
    whole, changed = suggest_whole(names, pairs, placed, evidence.looks, evidence.to_depth)
    left_over = _judge(names, pairs, changed, evidence, eyes).accused
    found = [*([whole] if whole else []), *suggest_single(names, left_over, pairs, changed, evidence.looks)]
    return found, [] if found else ["no inverse, axis flip or roll lowers the warp error of the poses as given"]


def _notes(
    cameras: CameraSet,
    evidence: Evidence,
    judged: Judged,
    left_and_right: Sequence[tuple[FloatArray, FloatArray]],
) -> list[str]:
    """Say where the eyes look, and which cameras nothing could be said about."""
    notes = describe_rig(left_and_right, cameras.unit)
    lost = [name for name, placed in zip(cameras.names, cameras.placed, strict=True) if not placed]
    if lost:
        notes.append(f"{len(lost)} cameras have no pose: {_some(lost)}")
    alone = [
        name
        for name, one, count in zip(cameras.names, evidence.looks, judged.n_pairs, strict=True)
        if one is not None and not count
    ]
    if alone:
        notes.append(f"{len(alone)} images share too few matches with their neighbours to judge: {_some(alone)}")
    given = [camera for camera in cameras.cameras if camera is not None]
    if given and all(centred(camera) for camera in given) and evidence.rig is None:
        notes.append("all principal points are the exact centre: does the format hold none?")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
