"""Camera files of other programs, one module a format, and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.camera_set import CameraSet
from export.formats import colmap, pose_npz, run_folder, transforms
from utils.errors import InputError


@dataclass(frozen=True)
class Reader:
    """How to tell a format by its content, and to read it."""

    title: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], CameraSet]


READERS: dict[str, Reader] = {
    "run": Reader("a run of Specula, logs/<expname>", run_folder.is_run, run_folder.read_run),
    "npz": Reader("npz with names and world_from_left", pose_npz.recognises, pose_npz.read),
    "nerf-synthetic": Reader("transforms_train.json", transforms.is_synthetic, transforms.read_synthetic),
    "nerfstudio": Reader("transforms.json", transforms.is_transforms, transforms.read),
    "instant-ngp": Reader("transforms.json", transforms.is_transforms, transforms.read),
    "colmap": Reader("COLMAP model", colmap.recognises, colmap.read),
}


def read_cameras(path: Path, format: str = "") -> CameraSet:
    """Read cameras from a run of Specula or from a file of any known format.

    Poses are returned as they are: a mirrored or skewed one is for the caller to notice.

    Args:
        path: a file or folder.
        format: a key of READERS; an empty string: it is told by the content.

    Raises:
        InputError: no such file, no format that is known, or a file that is broken.
    """
    if not path.exists():
        raise InputError(
            f"{path} does not exist",
            found="no such file or folder",
            expected="a run of Specula or a camera file: " + ", ".join(READERS),
            do="check the path",
        )
    return READERS[format or detect(path)].read(path)


def detect(path: Path) -> str:
    """Return the format of a file or folder. Raises InputError where it is none that is known."""
    found = next((name for name, reader in READERS.items() if reader.recognises(path)), None)
    if found is None:
        raise InputError(
            f"{path}: no camera format was recognised",
            found=", ".join(sorted(entry.name for entry in path.iterdir())[:6]) if path.is_dir() else path.name,
            expected="; ".join(f"{name} ({reader.title})" for name, reader in READERS.items()),
            do="name the format with --from",
        )
    return found
