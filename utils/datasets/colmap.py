"""Read a folder with images and a COLMAP model of one camera, or of two eyes in `left` and `right`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from utils.colmap_files import ModelCamera, ModelImage, read_model
from utils.datasets.files import name_frames
from utils.datasets.options import ReaderOptions
from utils.datasets.source import Finding, Frame, Lens, Source
from utils.datasets.splits import Names, read_lists
from utils.errors import InputError
from utils.geometry import FloatArray, invert_rigid, nearest_rotation, rigid, rotation_angle_degrees
from utils.images import IMAGE_ENDINGS, natural_key
from utils.map_header import image_size
from utils.types import Camera, Side

KIND = "colmap"
MODELS = ("sparse/0", "sparse", "colmap/sparse/0")
RECORD = "specula.json"  # what `python -m export.convert` leaves beside a model
_EYES: dict[str, Side] = {"left": "left", "l": "left", "right": "right", "r": "right"}
_SAME_LENS = 0.005  # relative difference of focal lengths that one lens may show
_SAME_SHAPE = 0.01
_RIGID = 0.02  # of the baseline, by which the eyes may move against each other


def looks_like(folder: Path) -> bool:
    """Whether there are images and a model."""
    return (folder / "images").is_dir() and _model_folder(folder) is not None


def _model_folder(folder: Path) -> Path | None:
    for place in MODELS:
        for ending in ("bin", "txt"):
            if all((folder / place / f"{name}.{ending}").is_file() for name in ("cameras", "images")):
                return folder / place
    return None


def read(folder: Path, options: ReaderOptions) -> Source:
    """Return images with the poses of the model. Raises InputError where files do not fit together."""
    model = _model_folder(folder)
    eyes = _list_eyes(folder / "images")
    if model is None or not eyes.get("left"):
        raise InputError(
            f"{folder} is no folder with images and a COLMAP model",
            found="no model" if model is None else f"no left images in {folder / 'images'}",
            expected=f"images, and cameras and images files (.bin or .txt) in {' or '.join(MODELS)}",
            do="give the folder above images and sparse",
        )
    cameras, registered = read_model(model)
    poses = {one.name: invert_rigid(one.camera_from_world) for one in registered}
    size = image_size(next(iter(eyes["left"].values())))
    findings: list[Finding] = []
    lenses: dict[Side, Lens] = {}
    for side, files in eyes.items():
        given = {path.relative_to(folder / "images").as_posix() for path in files.values()}
        seen = [one for one in registered if one.name in given]
        lenses[side] = _lens(side, seen, cameras, size, findings)
    names = list(eyes["left"])
    stand = {side: _stand(folder / "images", files, names, poses) for side, files in eyes.items()}
    unit_mm = _unit(folder, model, findings)
    right_from_left = _rig(stand, findings) if "right" in stand else None
    if right_from_left is not None and options.baseline_mm is not None:
        unit_mm = options.baseline_mm / float(np.linalg.norm(right_from_left[:3, 3]))
        findings.append(Finding("ok", "scale", f"{unit_mm:.6g} mm a unit of the model, from --baseline_mm"))
    if right_from_left is not None and unit_mm is None:
        do = "give the distance between the eyes with --baseline_mm"
        findings.append(Finding("refuse", "scale", "two eyes, and no length of the model is known in mm", do))
    world_from_left = _scaled(stand["left"], unit_mm or 1.0)
    missing = [name for name, pose in zip(names, world_from_left, strict=True) if not np.isfinite(pose).all()]
    if missing:
        words = f"{len(missing)} of {len(names)} images are not in the model: {', '.join(missing[:5])}"
        findings.append(Finding("warn", "poses", words))
    chosen = list(options.chosen(len(names)))
    listed = [names[index] for index in chosen]
    train, test = _recorded_splits(folder, model, listed) or read_lists(folder, listed)
    return Source(
        kind=KIND,
        folder=folder,
        frames=tuple(_frame(names[index], eyes) for index in chosen),
        image_size=size,
        lenses=lenses,
        right_from_left=None if right_from_left is None else _scaled(right_from_left, unit_mm or 1.0),
        world_from_left=world_from_left[chosen],
        metric=unit_mm is not None,
        train=train,
        test=test,
        findings=findings,
    )


def _frame(name: str, eyes: Mapping[Side, Mapping[str, Path]]) -> Frame:
    return Frame(name, {side: files[name] for side, files in eyes.items() if name in files})


def _list_eyes(images: Path) -> dict[Side, dict[str, Path]]:
    """Return the images of each eye by frame: `left`/`l` and `right`/`r` are eyes, everything else is the left."""
    files = [path for path in images.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS]
    folders = sorted({path.relative_to(images).parts[0] for path in files if path.parent != images})
    others = [name for name in folders if name.lower() not in _EYES]
    if len(others) > 1 or (others and len(others) < len(folders)):
        raise InputError(
            f"{images} has several cameras",
            found=", ".join(folders),
            expected="one camera, or two eyes in left and right",
            do="rename the folders of the two eyes in images and in the model, or take one camera out of both",
        )
    eyes: dict[Side, list[Path]] = {}
    for path in sorted(files, key=lambda path: natural_key(str(path.relative_to(images)))):
        side = _EYES.get(path.relative_to(images).parts[0].lower(), "left")
        eyes.setdefault(side, []).append(path)
    return {side: name_frames(eyes[side]) for side in ("left", "right") if side in eyes}


def _lens(
    side: Side,
    seen: Sequence[ModelImage],
    cameras: Mapping[int, ModelCamera],
    size: tuple[int, int],
    findings: list[Finding],
) -> Lens:
    """Return the lens of one eye in the size of its images; several cameras of a model become their median."""
    if not seen:
        raise InputError(
            f"the model has no {side} image",
            found=f"no image of the {side} eye among those with a pose",
            expected="image names of the model as in the folder images",
            do="give the images that the model was made from",
        )
    used = [cameras[number] for number in sorted({one.camera for one in seen})]
    bent = next((camera for camera in used if camera.distortion is None), None)
    if bent is not None:
        do = "undistort with `colmap image_undistorter`, and read its output"
        words = f"the {side} eye's camera is {bent.bent}, which no pinhole with OpenCV's distortion is"
        findings.append(Finding("refuse", "lens", words, do))
    focal = np.array([camera.pinhole.fx for camera in used])
    spread = float(np.ptp(focal) / np.median(focal))
    if len(used) > 1 and spread > 1e-6:
        words = f"{len(used)} cameras for the {side} eye, focal lengths within {100 * spread:.2g} %"
        do = "make the model again with one camera for all images of an eye (--ImageReader.single_camera)"
        findings.append(Finding("refuse" if spread > _SAME_LENS else "warn", "lens", words, do))
    middle = used[int(np.argsort(focal)[len(used) // 2])]
    return Lens(_resized(middle.pinhole, size, findings).matrix, middle.distortion or ())


def _resized(camera: Camera, size: tuple[int, int], findings: list[Finding]) -> Camera:
    if (camera.width, camera.height) == size:
        return camera
    said = f"the model was made of {camera.width}x{camera.height}, the images have {size[0]}x{size[1]}"
    if abs(size[0] / size[1] * camera.height / camera.width - 1) > _SAME_SHAPE:
        do = "give the images that the model was made from, or a scaled copy of them"
        findings.append(Finding("refuse", "image size", f"{said}: another shape", do))
    else:
        findings.append(Finding("warn", "image size", f"{said}: the calibration is scaled"))
    return camera.resized(*size)


def _stand(
    images: Path, files: Mapping[str, Path], names: Sequence[str], poses: Mapping[str, FloatArray]
) -> FloatArray:
    """Return world_from_camera (n, 4, 4) of the left eye's frames in the model's unit; NaN where there is none."""
    unknown = np.full((4, 4), np.nan)
    keys = [files[name].relative_to(images).as_posix() if name in files else "" for name in names]
    return np.stack([poses.get(key, unknown) for key in keys])


def _rig(stand: Mapping[Side, FloatArray], findings: list[Finding]) -> FloatArray | None:
    """Return right_from_left (4, 4), the mean over the frames, in the model's unit."""
    both = np.isfinite(stand["left"]).all(axis=(1, 2)) & np.isfinite(stand["right"]).all(axis=(1, 2))
    if not both.any():
        findings.append(Finding("refuse", "rig", "no frame has a pose of both eyes", "register both eyes"))
        return None
    each = invert_rigid(stand["right"][both]) @ stand["left"][both]
    mean = rigid(nearest_rotation(each[:, :3, :3].mean(axis=0)), np.median(each[:, :3, 3], axis=0))
    baseline = float(np.linalg.norm(mean[:3, 3]))
    moved = float(np.linalg.norm(each[:, :3, 3] - mean[:3, 3], axis=1).max())
    turned = float(rotation_angle_degrees(each[:, :3, :3] @ mean[:3, :3].T).max())
    words = f"eyes {baseline:.6g} apart, differing by up to {moved:.2g} and {turned:.2g} degrees between frames"
    loose = moved > _RIGID * baseline
    do = "make the model with a rig (rig_configurator), so that the eyes are fixed to each other" if loose else ""
    findings.append(Finding("refuse" if loose else "ok", "rig", words, do))
    return mean


def _record(folder: Path, model: Path) -> Path | None:
    return next((path / RECORD for path in (folder, model) if (path / RECORD).is_file()), None)


def _recorded_splits(folder: Path, model: Path, names: Sequence[str]) -> tuple[Names | None, Names | None] | None:
    """Return the splits that our own record beside the model keeps; None where it keeps none."""
    place = _record(folder, model)
    try:
        record = json.loads(place.read_text()) if place else {}
        splits = {Path(name).stem: split for name, split in zip(record["names"], record["splits"], strict=True)}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not set(splits.values()) & {"train", "test"}:
        return None
    train, test = (tuple(name for name in names if splits.get(name) == split) for split in ("train", "test"))
    return train, test


def _unit(folder: Path, model: Path, findings: list[Finding]) -> float | None:
    """Return mm a unit of the model, where our own record beside it says so; None: unknown."""
    place = _record(folder, model)
    if place is None:
        findings.append(Finding("ok", "scale", "a COLMAP model has none of its own"))
        return None
    try:
        record = json.loads(place.read_text())
        unit, scale = str(record["unit"]), float(record["scale"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        findings.append(Finding("warn", "scale", f"{place} cannot be read ({error}): lengths are unknown"))
        return None
    findings.append(Finding("ok", "scale", f"{1 / scale:g} {unit} a unit of the model, as {place.name} says"))
    return 1 / scale if unit == "mm" else None


def _scaled(poses: FloatArray, factor: float) -> FloatArray:
    scaled = poses.copy()
    scaled[..., :3, 3] *= factor
    return scaled
