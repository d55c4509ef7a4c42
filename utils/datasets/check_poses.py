"""Check a source's poses: rigid, not mirrored, in the order of the frames, of a size that fits the depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utils.datasets.check_rig import rotation_trouble
from utils.datasets.samples import Sample
from utils.datasets.source import Finding, Source
from utils.types import FloatArray

STILL = 1e-4  # of the depth
FAR = 30.0  # of the depth: a camera that travels so far does not see the same tissue
SHUFFLED = 0.8  # of the length of a random order
FEWEST = 8
LEAVE_OUT = "mend the poses, or leave them out with --no_poses (run.py: --dataset_poses False)"
STATIC = (
    "the camera stands still while the tissue moves: a static field is invalid here, and no poses can be "
    "estimated; what can be had is depth from stereo frame by frame, and its scores"
)


def check_poses(source: Source, samples: Sequence[Sample]) -> list[Finding]:
    """Check poses as far as their numbers alone show it, and say whether the camera moves."""
    still = [Finding("warn", "motion", STATIC)] if source.moving_camera is False else []
    poses = source.world_from_left
    if poses is None:
        return [Finding("ok", "poses", "none given: they will be estimated from the images"), *still]
    if poses.shape != (len(source.frames), 4, 4):
        return [Finding("refuse", "poses", f"{len(source.frames)} frames, poses of shape {poses.shape}")]
    placed = np.flatnonzero(np.isfinite(poses).all(axis=(1, 2)))
    if not len(placed):
        return [Finding("refuse", "poses", "no frame has one", LEAVE_OUT)]
    given = poses[placed]
    findings = [_missing(source, placed)] if len(placed) < len(poses) else []
    wrong = rotation_trouble(given[:, :3, :3])
    if wrong:
        name = source.frames[placed[wrong[0]]].name
        return [*findings, Finding("refuse", "handedness", f"frame {name}: {wrong[1]}", wrong[2])]
    if np.abs(given[:, 3] - [0, 0, 0, 1]).max() > 1e-6:
        do = "write camera-to-world matrices whose translation is the last column"
        return [*findings, Finding("refuse", "poses", "a last row other than 0 0 0 1 (transposed?)", do)]
    findings.append(Finding("ok", "handedness", "rotations with determinant +1"))
    return [*findings, *_extent(source, given[:, :3, 3], samples), *_order(given[:, :3, 3]), *still]


def _missing(source: Source, placed: NDArray[np.int64]) -> Finding:
    names = [frame.name for index, frame in enumerate(source.frames) if index not in set(placed)]
    words = f"{len(names)} of {len(source.frames)} frames have none: {', '.join(names[:5])}"
    return Finding("warn", "poses", words, "these frames are left out of everything after the poses")


def _extent(source: Source, places: FloatArray, samples: Sequence[Sample]) -> list[Finding]:
    """Compare the way of the camera with the depth."""
    extent = float(np.linalg.norm(np.ptp(places, axis=0)))
    unit = "mm" if source.metric else "of an unknown unit"
    depth = depth_median(samples)
    words = f"the camera's places span {extent:.4g} {unit}"
    if source.moving_camera is False:
        return [Finding("ok", "way of the camera", words)]
    if not source.metric or depth is None:
        still = extent == 0
        return [Finding("warn" if still else "ok", "way of the camera", words)]
    words += f", the depth's median is {depth:.4g} mm"
    if extent > FAR * depth:
        do = "bring both into mm: depth in metres wants --depth_scale 1000"
        return [Finding("refuse", "way of the camera", f"{words}: one of them has another unit", do)]
    if extent < STILL * depth:
        do = "poses in metres must be given in mm; a camera that does stand still gives no field"
        return [Finding("warn", "way of the camera", f"{words}: it hardly moves, or has another unit", do)]
    return [Finding("ok", "way of the camera", words)]


def _order(places: FloatArray) -> list[Finding]:
    """Compare the way from frame to frame with that in a random order."""
    if len(places) < FEWEST or np.ptp(places, axis=0).max() == 0:
        return []
    way = float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
    rng = np.random.default_rng(0)
    shuffled = [np.linalg.norm(np.diff(rng.permutation(places), axis=0), axis=1).sum() for _ in range(20)]
    share = way / float(np.median(shuffled))
    words = f"the way from frame to frame is {share:.0%} of that in a random order"
    if share > SHUFFLED:
        do = "check that poses and images are sorted alike (1, 2, ..., 10 or 1, 10, ..., 2); photographs may jump"
        return [Finding("warn", "order of poses", words, do)]
    return [Finding("ok", "order of poses", words)]


def depth_median(samples: Sequence[Sample]) -> float | None:
    """Return the median of the left eye's known depth, mm; None where there is none."""
    known = [depth[np.isfinite(depth)] for sample in samples for depth in sample.depth_mm.values()]
    medians = [float(np.median(values)) for values in known if values.size]
    return float(np.median(medians)) if medians else None
