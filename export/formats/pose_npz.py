"""Read and write the npz of poses that `--poses file` takes: `names`, `world_from_left`, `metric`, mm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from export.camera_set import UNKNOWN_UNIT, CameraSet, eye_and_frame
from export.formats.outgoing import Outgoing
from export.formats.sidecar import KEY, as_text, restored
from utils.artifacts import Array
from utils.broken_files import as_floats, broken, load_arrays
from utils.errors import InputError
from utils.types import ARBITRARY_UNITS, FloatArray

_EXPECTED = "names (n,), world_from_left (n, 4, 4) and, optionally, world_from_right and metric"
_EYES = ("left", "right")


def recognises(path: Path) -> bool:
    """Whether a file is an npz with `names` and `world_from_left`."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    return {"names", "world_from_left"} <= set(load_arrays(path, _EXPECTED))


def read(path: Path) -> CameraSet:
    """Read poses (n, 4, 4) of one or both eyes; rows of NaN are frames without a pose."""
    arrays = load_arrays(path, _EXPECTED)
    missing = {"names", "world_from_left"} - set(arrays)
    if missing:
        raise broken(path, f"no {' and no '.join(sorted(missing))}", _EXPECTED)
    if arrays["names"].ndim != 1 or not len(arrays["names"]):
        raise broken(path, f"names of shape {arrays['names'].shape}", _EXPECTED)
    names = [str(name) for name in arrays["names"]]
    eyes = [eye for eye in _EYES if f"world_from_{eye}" in arrays]
    for eye in eyes:
        shape = arrays[f"world_from_{eye}"].shape
        if shape != (len(names), 4, 4):
            raise broken(path, f"{len(names)} names and world_from_{eye} of shape {shape}", _EXPECTED)
    poses = [as_floats(path, f"world_from_{eye}", arrays[f"world_from_{eye}"], _EXPECTED) for eye in eyes]
    unit = UNKNOWN_UNIT
    if "metric" in arrays:
        metric = arrays["metric"]
        if metric.size != 1 or metric.dtype.kind not in "biu":
            raise broken(path, f"metric of shape {metric.shape}, type {metric.dtype}", "one truth value")
        unit = "mm" if metric.item() else ARBITRARY_UNITS
    cameras = CameraSet(
        names=tuple(f"{eye}/{name}" for eye in eyes for name in names),
        world_from_camera=np.concatenate(poses),
        cameras=(None,) * (len(names) * len(eyes)),
        unit=unit,
    )
    return _with_record(cameras, arrays, path)


def _with_record(cameras: CameraSet, arrays: dict[str, Array], path: Path) -> CameraSet:
    """Add what the record inside says of the cameras that it names; poses stay the file's."""
    if KEY not in arrays:
        return cameras
    stems = {name: k for k, name in enumerate(cameras.names)}
    try:
        record = json.loads(str(arrays[KEY]))
        order = [stems["/".join(eye_and_frame(name))] for name in record["names"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise broken(
            path, f"a record of other cameras: {error}", "the record that was written with them"
        ) from error
    return restored(cameras.only(order), record, path)


def losses(cameras: CameraSet) -> list[str]:
    """Return in words what `--poses file` will not see."""
    frames = [eye_and_frame(name) for name in cameras.names]
    lonely = {frame for eye, frame in frames if eye == "right"} - {frame for eye, frame in frames if eye == "left"}
    if not lonely:
        return []
    return [f"frames are keyed by the left eye, which these lack: {', '.join(sorted(lonely))}"]


def write(out: Outgoing, path: Path) -> None:
    """Write poses in mm; calibration and file names go into a record that only this program reads."""
    cameras = out.cameras
    keys: list[tuple[str, str]] = [eye_and_frame(name) for name in cameras.names]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(
            "an npz of poses has one image an eye and frame",
            found=f"several images of the {twice[0]} eye at frame {twice[1]}",
            expected="images of one rig: left/<frame>, right/<frame>",
            do="choose a format that has names",
        )
    views = dict(zip(keys, cameras.world_from_camera, strict=True))
    names = list(dict.fromkeys(frame for _, frame in views))
    unknown = np.full((4, 4), np.nan)
    arrays: dict[str, Array] = {
        "names": np.array(names, np.str_),
        "metric": np.array(cameras.unit == "mm"),
        KEY: np.array(as_text(out.record)),
    }
    for eye in _EYES:
        if eye == "left" or any(side == eye for side, _ in views):
            poses: list[FloatArray] = [views.get((eye, name), unknown) for name in names]
            arrays[f"world_from_{eye}"] = np.stack(poses)
    with open(path, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
