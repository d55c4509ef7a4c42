"""Turn cameras of one source into the files of one format: choose, check, scale, write, say what is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.camera_set import UNKNOWN_UNIT, CameraSet, eye_and_frame
from export.conversion_target import Target, find_target
from export.formats import RUN, detect, read_cameras
from export.formats.outgoing import Outgoing, seen_region
from export.formats.run_folder import depth_bounds, run_points
from export.formats.sidecar import record_of
from export.image_files import ImageOrder
from utils.errors import InputError
from utils.geometry import nearest_rotation
from utils.types import FloatArray

UNITS_MM = {"mm": 1.0, "m": 1000.0}
_SKEWED = 0.02  # largest deviation of a rotation that printed digits explain
_ROUNDED = 1e-9  # and the largest that is not worth a word
_BROUGHT = {
    "reference": "named where they are",
    "copy": "copied",
    "link": "linked",
    "rgba": "cut out",
    "none": "none",
}


@dataclass(frozen=True)
class Order:
    """What to convert, and how; empty strings and None are for the command to choose.

    `from_unit` is what a file means that does not say its unit; `unit` or `scale` (file length for 1 mm) what the
    new file means; `bounds` nearest and farthest depth, mm (or the unit of a source that is not metric).
    """

    source: Path
    target: Path
    read_as: str = ""
    write_as: str = ""
    sides: str = "both"
    images: str = ""
    alpha: str = "tissue"
    from_unit: str = ""
    unit: str = ""
    scale: float | None = None
    bounds: tuple[float, float] | None = None
    strict: bool = False
    overwrite: bool = False


def convert(order: Order) -> list[str]:
    """Write the files; return in words what was written, and what is lost.

    Raises:
        InputError: anything that does not fit together; nothing is written then.
    """
    target = find_target(order.target, order.write_as)
    target.require_free(order.source, overwrite=order.overwrite)
    kind = order.read_as or detect(order.source)
    source = read_cameras(order.source, kind)
    run = order.source if kind == RUN else None
    numbers = _frame_numbers(source)
    cameras, said = _usable(order, source, run, target)
    lost = [*source.missing, *target.format.losses(cameras)]
    cameras = _one_path(cameras) if target.is_path else cameras
    if order.strict and lost:
        raise InputError(
            f"--strict: {target.name} cannot hold these cameras",
            found="; ".join(lost),
            expected="nothing lost",
            do="choose another format, or leave --strict out",
        )
    scale = _scale(order, cameras.unit, target)
    record = record_of(cameras, scale) | {
        "frame_numbers": [numbers[eye_and_frame(name)[1]] for name in cameras.names],
        "left_out": sorted(set(source.names) - set(cameras.names)),
    }
    images = ImageOrder(_policy(order, cameras, target), target.format.layout, run, order.alpha)
    points, colours = run_points(run) if run and not target.format.single else _no_points()
    scaled = cameras.scaled(scale)
    files = tuple(images.names(cameras, target.final))
    out = Outgoing(scaled, files, record, points * scale, colours, seen_region(scaled, points * scale))
    with target.partial() as partial:
        images.place(cameras, partial, target.final)
        target.format.write(out, partial / target.path.name if target.format.single else partial)
        target.publish(partial)
    if out.region is None and target.format.unseen:
        said.append(f"no depth says what the cameras see: {target.format.unseen}")
    notes = [f"note: {note}" for note in (*source.notes, *said)]
    return [*_summary(order, out, target, images.policy), *notes, *(f"lost: {one}" for one in lost)]


def _usable(order: Order, source: CameraSet, run: Path | None, target: Target) -> tuple[CameraSet, list[str]]:
    """Return the chosen cameras that have poses, with exact rotations and depth bounds; and what was done."""
    cameras = _in_mm(source, order)
    eyes = [eye_and_frame(name)[0] for name in cameras.names]
    chosen = [k for k, eye in enumerate(eyes) if order.sides in ("both", eye)]
    placed = [k for k in chosen if cameras.placed[k]]
    if not placed:
        raise InputError(
            f"{order.source} has no camera to convert",
            found=f"{len(chosen)} cameras of --sides {order.sides}, none with a pose",
            expected="at least one camera with a pose",
            do="choose the other --sides, or look at the poses of the source",
        )
    said = []
    if len(placed) < len(chosen):
        left_out = ", ".join(cameras.names[k] for k in chosen if k not in placed)
        said.append(f"left out, for they have no pose: {left_out}")
    cameras, skew = _exact(cameras.only(placed), order.source)
    if skew > _ROUNDED:
        said.append(f"rotations were orthonormal to {skew:.1g}: the nearest rotations are written")
    if not target.format.single:
        _require_calibration(cameras, order, target)
    cameras = _bounded(cameras, order, run)
    if cameras.bounds is None and target.name == "llff":
        raise InputError(
            "LLFF wants the nearest and farthest depth of every image",
            found=f"no depth in {order.source}",
            expected="a run that has come as far as its prior, a file with depth bounds, or --bounds",
            do="give --bounds NEAR FAR",
        )
    return cameras, said


def _bounded(cameras: CameraSet, order: Order, run: Path | None) -> CameraSet:
    """Return cameras with the depth bounds that were ordered, of the run's depth, or those that they had."""
    if order.bounds is None:
        return cameras if run is None else replace(cameras, bounds=depth_bounds(run, cameras))
    near, far = order.bounds
    if not 0 < near < far < np.inf:
        raise InputError(
            "--bounds", found=f"{near:g} {far:g}", expected="0 < NEAR < FAR", do="give the nearer one first"
        )
    return replace(cameras, bounds=np.tile(order.bounds, (len(cameras.names), 1)))


def _in_mm(cameras: CameraSet, order: Order) -> CameraSet:
    """Return cameras in mm where `--from_unit` says what the lengths of a file are."""
    if not order.from_unit:
        return cameras
    if cameras.unit != UNKNOWN_UNIT:
        raise InputError(
            f"--from_unit {order.from_unit}: {order.source} says its unit itself",
            found=cameras.unit,
            expected="a file that does not say what its lengths are",
            do="leave --from_unit out",
        )
    return replace(cameras.scaled(UNITS_MM[order.from_unit]), unit="mm")


def _exact(cameras: CameraSet, source: Path) -> tuple[CameraSet, float]:
    """Return cameras with exact rotations, and by how much they were off. Refuse what is no rigid motion."""
    rotations = cameras.world_from_camera[:, :3, :3]
    skew = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2))
    mirrored = np.linalg.det(rotations) < 0
    wrong = np.flatnonzero(mirrored | (skew > _SKEWED))
    if len(wrong):
        found = "a mirrored world (determinant -1)" if mirrored[wrong[0]] else "axes that are not orthonormal"
        raise InputError(
            f"{source}: {len(wrong)} cameras are not rigid motions ({cameras.names[wrong[0]]} first)",
            found=found,
            expected="camera-to-world rotations with determinant +1, without scale or shear",
            do="look at them with `python -m export.check_cameras`",
        )
    if float(skew.max()) <= _ROUNDED:
        return cameras, float(skew.max())
    poses = cameras.world_from_camera.copy()
    poses[:, :3, :3] = np.stack([nearest_rotation(rotation) for rotation in rotations])
    return replace(cameras, world_from_camera=poses), float(skew.max())


def _require_calibration(cameras: CameraSet, order: Order, target: Target) -> None:
    missing = [name for name, camera in zip(cameras.names, cameras.cameras, strict=True) if camera is None]
    if missing:
        raise InputError(
            f"{target.name} needs the calibration of every camera",
            found=f"none in {order.source} for {', '.join(missing[:3])}",
            expected="focal lengths, principal point and image size",
            do="convert from a run or a format with calibration, or put the images beside the file",
        )


def _scale(order: Order, unit: str, target: Target) -> float:
    """Return the length in the file for a length of 1 in the unit of the cameras."""
    if order.unit and order.scale is not None:
        raise InputError("--unit and --scale", found="both", expected="one of them", do="leave one out")
    if order.unit and unit != "mm":
        raise InputError(
            f"--unit {order.unit}: the cameras are not metric",
            found=unit,
            expected="lengths in mm",
            do="say what the file means with --from_unit, or use --scale",
        )
    scale = 1 / UNITS_MM[order.unit] if order.unit else 1.0 if order.scale is None else order.scale
    if not (np.isfinite(scale) and scale > 0):
        raise InputError("--scale", found=f"{scale:g}", expected="a number above 0", do="correct the flag")
    if scale != 1.0 and target.name == "npz":
        raise InputError(
            "--unit or --scale: an npz for --poses file is in mm",
            found=f"a scale of {scale:g}",
            expected="a scale of 1",
            do="leave the flag out",
        )
    return scale


def _policy(order: Order, cameras: CameraSet, target: Target) -> str:
    """Return how images are brought: as ordered, or referred to where the format can, copied where it cannot."""
    complete = bool(cameras.images) and None not in cameras.images
    if not order.images:
        return "none" if target.format.single or not complete else "reference" if target.format.refers else "copy"
    impossible = order.images == "reference" and not target.format.refers
    if impossible or (target.format.single and order.images != "none"):
        raise InputError(
            f"--images {order.images}: {target.name} names images by their place beside the file, or not at all",
            found=order.images,
            expected="none" if target.format.single else "copy, link, rgba or none",
            do="choose one of these",
        )
    return order.images


def _one_path(cameras: CameraSet) -> CameraSet:
    """Return the cameras of the first eye."""
    eyes = [eye_and_frame(name)[0] for name in cameras.names]
    return cameras.only([k for k, eye in enumerate(eyes) if eye == eyes[0]])


def _frame_numbers(cameras: CameraSet) -> dict[str, int]:
    """Return the number of each frame among all frames of the source, placed or not."""
    return {frame: k for k, frame in enumerate(dict.fromkeys(eye_and_frame(name)[1] for name in cameras.names))}


def _no_points() -> tuple[FloatArray, NDArray[np.uint8]]:
    return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)


def _summary(order: Order, out: Outgoing, target: Target, policy: str) -> list[str]:
    """Return what was written: cameras, points, lengths, images, and what only reading back will know."""
    eyes = [eye_and_frame(name)[0] for name in out.cameras.names]
    counts = ", ".join(f"{eyes.count(eye)} {eye}" for eye in dict.fromkeys(eyes))
    points = f", {len(out.points_world)} points" if target.format.points else ""
    scale = "" if out.record["scale"] == 1 else f", times {out.record['scale']:g}"
    return [
        f"{target.path}: {target.format.title}, {len(eyes)} cameras ({counts}){points}",
        f"lengths: {order.unit or out.cameras.unit + scale}; images: {_BROUGHT[policy]}",
        f"kept for reading back, as the format has no room for it: {target.format.omits}",
    ]
