"""What a camera format has no room for: a record beside the file or inside it, from which reading restores it.

`specula.json` in a folder, `<file>.specula.json` beside a single file, or the key `specula` of a JSON file.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.camera_set import CameraSet
from utils.artifacts import write_json
from utils.errors import InputError
from utils.types import Camera

KEY = "specula"
NAME = f"{KEY}.json"


def record_of(cameras: CameraSet, scale: float) -> dict[str, Any]:
    """Return what restores cameras from a file whose lengths are theirs times `scale`."""
    return {
        "unit": cameras.unit,
        "scale": scale,
        "says": "a length in the file is the length in `unit` times `scale`; depth bounds are in `unit`; pixels "
        "count from 0 at the centre of the top-left pixel",
        "names": list(cameras.names),
        "cameras": [None if camera is None else asdict(camera) for camera in cameras.cameras],
        "splits": list(cameras.splits),
        "bounds": None if cameras.bounds is None else cameras.bounds.tolist(),
    }


def sidecar_path(path: Path) -> Path:
    """Return where the record of a format's folder or single file lies."""
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}.{NAME}")


def restore(cameras: CameraSet, place: Path) -> CameraSet:
    """Return cameras as they were written, by the record at `place`; as they are where there is none."""
    if not place.exists():
        return cameras
    try:
        record = json.loads(place.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{place} cannot be read",
            found=str(error).splitlines()[0],
            expected="the JSON record that `python -m export.convert` wrote",
            do="convert again, or remove the file: what the format itself holds is read then",
        ) from error
    return restored(cameras, record, place)


def restored(cameras: CameraSet, record: Any, place: Path) -> CameraSet:
    """Return cameras as they were written: names, calibration, unit, splits and bounds are the record's.

    Raises:
        InputError: the record belongs to another number of cameras, or is not one of ours.
    """
    try:
        names = tuple(str(name) for name in record["names"])
        given = tuple(None if one is None else _camera(one) for one in record["cameras"])
        scale, unit, splits = float(record["scale"]), str(record["unit"]), tuple(map(str, record["splits"]))
        bounds = None if record["bounds"] is None else np.array(record["bounds"], float).reshape(len(names), 2)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise _refused(place, f"a record without a usable {error}") from error
    if not len(names) == len(given) == len(cameras.names) or len(splits) not in (0, len(names)):
        raise _refused(place, f"a record of {len(names)} cameras, a file of {len(cameras.names)}")
    if not 0 < scale < math.inf or (bounds is not None and not np.isfinite(bounds).all()):
        raise _refused(place, f"a scale of {scale:g}, or bounds that are not finite")
    back = replace(cameras, bounds=None).scaled(1 / scale)
    return replace(back, names=names, cameras=given, unit=unit, splits=splits, bounds=bounds)


def _camera(values: dict[str, Any]) -> Camera:
    """Return a camera of a record. Raises TypeError or ValueError where its numbers are none."""
    camera = Camera(**values)
    finite = all(math.isfinite(value) for value in asdict(camera).values())
    if not finite or min(camera.fx, camera.fy, camera.width, camera.height) <= 0:
        raise ValueError(f"camera: {values}")
    return camera


def write_sidecar(place: Path, record: dict[str, Any]) -> None:
    """Write a record."""
    write_json(place, record)


def as_text(record: dict[str, Any]) -> str:
    """Return a record as one line of JSON, for formats that hold text."""
    return json.dumps(record, allow_nan=False)


def _refused(place: Path, found: str) -> InputError:
    return InputError(
        f"{place} does not belong to the file that it describes",
        found=found,
        expected="the record that `python -m export.convert` wrote together with the file",
        do="convert again, or remove the record: what the format itself holds is read then",
    )
