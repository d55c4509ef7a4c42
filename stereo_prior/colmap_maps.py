"""Depth maps of a COLMAP dense workspace, `stereo/depth_maps/<image>.geometric.bin`: names and format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.errors import InputError
from utils.images import IMAGE_ENDINGS
from utils.types import FloatArray, Side

_FOLDER = Path("stereo") / "depth_maps"
_ENDING = ".geometric.bin"
_HEADER = re.compile(rb"(\d+)&(\d+)&(\d+)&")
_RIGHT = {"r", "right"}


def files(folder: Path) -> list[Path]:
    """Return the depth maps of a workspace, sorted."""
    return sorted((folder / _FOLDER).rglob(f"*{_ENDING}"))


def unusable(folder: Path) -> str:
    """Return, in words, why a workspace has no maps; nothing where it is no workspace."""
    if not (folder / _FOLDER).is_dir():
        return ""
    photometric = len(list((folder / _FOLDER).rglob("*.photometric.bin")))
    if photometric:
        return f"{photometric} *.photometric.bin and no *{_ENDING}: patch_match_stereo without geom_consistency"
    return f"a COLMAP workspace without *{_ENDING}: patch_match_stereo did not run"


def find(folder: Path, names: Sequence[str]) -> dict[tuple[Side, str], Path]:
    """Return (eye, frame) -> depth map of the frames whose images COLMAP had.

    The right eye is an image in a folder `r` or `right`, or called `right_<frame>`; all others are left ones.
    """
    root, known = folder / _FOLDER, set(names)
    found: dict[tuple[Side, str], Path] = {}
    for path in files(folder):
        image = path.relative_to(root).as_posix().removesuffix(_ENDING)
        parent, _, last = image.rpartition("/")
        stem = last.rpartition(".")[0] if last.lower().endswith(IMAGE_ENDINGS) else last
        side: Side = "right" if _RIGHT & set(parent.split("/")) else "left"
        if stem in known:
            found[side, stem] = path
        elif stem.partition("_")[0] in ("left", "right") and stem.partition("_")[2] in known:
            found["right" if stem.startswith("right_") else "left", stem.partition("_")[2]] = path
    return found


def check(folder: Path, names: Sequence[str]) -> None:
    """Raise InputError for maps that are not COLMAP's, or none that belongs to a frame (of `names`, if known)."""
    for path in files(folder):
        read_size(path)
    if names and not find(folder, names):
        raise InputError(
            f"{folder / _FOLDER}: no map belongs to a frame",
            found=", ".join(path.name for path in files(folder)[:3]),
            expected=f"{names[0]}.png{_ENDING}, l/images/{names[0]}.png{_ENDING}, right/{names[0]}.png{_ENDING}",
            do="name the images in COLMAP like those of the dataset, the right ones in a folder r or right",
        )


def read_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of a map. Raises InputError for a file that is not COLMAP's, or cut short."""
    with open(path, "rb") as file:
        header = _HEADER.match(file.read(64))
    width, height, channels = (int(number) for number in header.groups()) if header else (0, 0, 0)
    length = (header.end() if header else 0) + 4 * width * height
    if channels != 1 or path.stat().st_size != length:
        raise InputError(
            f"{path} is not a depth map of COLMAP",
            found=f"{width} x {height} x {channels} in {path.stat().st_size} bytes"
            if header
            else "another header",
            expected="`width&height&1&` and then as many float32",
            do="run patch_match_stereo again, or remove the file",
        )
    return width, height


def read_depth(path: Path) -> FloatArray:
    """Return z-depth (h, w) in the unit of COLMAP's model, NaN unknown.

    COLMAP's array is column-major in (width, height, channel): for one channel, rows one after the other.
    """
    width, height = read_size(path)
    values = np.frombuffer(path.read_bytes()[-4 * width * height :], "<f4").reshape(height, width)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)
