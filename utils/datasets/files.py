"""What readers of folders share: images with their frames' names, files that belong to them, lazy decoding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.datasets.options import ReaderOptions
from utils.errors import InputError
from utils.images import natural_key, read_map, read_mask
from utils.types import BoolArray

DEPTH_ENDINGS = (".png", ".npy", ".npz", ".tiff", ".tif", ".pfm", ".exr")


def list_files(folder: Path, endings: Iterable[str]) -> list[Path]:
    """Return the files of a folder with one of the endings, in natural order; none where there is no folder."""
    if not folder.is_dir():
        return []
    wanted = tuple(endings)
    files = [path for path in folder.iterdir() if path.suffix.lower() in wanted and not path.name.startswith(".")]
    return sorted(files, key=lambda path: natural_key(path.name))


def name_frames(images: Iterable[Path]) -> dict[str, Path]:
    """Return frame name -> image; names end at the first dot where that tells files apart, else at the last.

    Raises:
        InputError: two images of one name.
    """
    files = list(images)
    short = [path.name.split(".")[0] for path in files]
    names = short if len(set(short)) == len(files) else [path.stem for path in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        same = [path for path, name in zip(files, names, strict=True) if name == twice]
        raise InputError(
            f"{same[0].parent}: two images of frame {twice}",
            found=" and ".join(path.name for path in same[:2]),
            expected="one image a frame",
            do=f"take {same[1].name} out",
        )
    return dict(zip(names, files, strict=True))


def beside(frames: Mapping[str, Path], files: list[Path], what: str) -> dict[str, Path]:
    """Return frame -> the file of another folder that belongs to it.

    Files belong to frames by their name up to the first dot, else by the last number in it, where all of them do;
    else by their order.

    Args:
        frames: frame -> image, in order.
        files: of one other folder, in natural order.
        what: they are, for the refusal.

    Raises:
        InputError: another number of files than of frames, where only the order could tell.
    """
    for key in (lambda path: path.name.split(".")[0], _last_number):
        images, others = _by(key, frames.values()), _by(key, files)
        if images and others and set(others) <= set(images):
            found = {name: others.get(key(path)) for name, path in frames.items()}
            return {name: path for name, path in found.items() if path is not None}
    if len(files) == len(frames):
        return dict(zip(frames, files, strict=True))
    if not files:
        return {}
    raise InputError(
        f"{files[0].parent} does not fit the images",
        found=f"{len(files)} {what} ({files[0].name}, ...) for {len(frames)} images "
        f"({next(iter(frames.values())).name}, ...)",
        expected=f"{what} with the numbers or names of the images, or as many of them",
        do="add what is missing, or rename the files as their images",
    )


def _by(key: Callable[[Path], str], files: Iterable[Path]) -> dict[str, Path] | None:
    """Return files by a key; None where it does not tell them apart."""
    listed = list(files)
    found = {key(path): path for path in listed}
    return found if len(found) == len(listed) and "" not in found else None


def _last_number(path: Path) -> str:
    numbers = re.findall(r"\d+", path.name.split(".")[0])
    return str(int(numbers[-1])) if numbers else ""


def tissue_mask(path: Path, *, nonzero_is_tool: bool) -> Callable[[], BoolArray]:
    """Return what decodes a mask file: (h, w), true on tissue."""
    return partial(_read_tissue, path, nonzero_is_tool)


def _read_tissue(path: Path, nonzero_is_tool: bool) -> BoolArray:
    return read_mask(path) ^ nonzero_is_tool


def depth_map(path: Path, scale_mm: float) -> Callable[[], NDArray[np.float32]]:
    """Return what decodes a depth file: (h, w) mm; 0 and below, NaN and infinity are unknown."""
    return partial(_read_depth, path, scale_mm)


def _read_depth(path: Path, scale_mm: float) -> NDArray[np.float32]:
    try:
        values = np.asarray(read_map(path), np.float64)
    except (ValueError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as depth",
            found=f"{type(error).__name__}: {error}",
            expected="one channel of numbers",
            do="write the file again, or take it out",
        ) from error
    return np.where(np.isfinite(values) & (values > 0), values * scale_mm, np.nan).astype(np.float32)


def nonzero_is_tool(options: ReaderOptions, layout: str) -> bool:
    """Return whether nonzero means tool in masks: as the user says, else as the layout does (`tool`, `tissue`)."""
    said = layout if options.mask_polarity == "auto" else options.mask_polarity
    if said not in ("tool", "tissue"):
        raise InputError(
            f"mask polarity {said}: nothing is called so",
            found=said,
            expected="auto, tissue or tool: what nonzero means",
            do="choose one of them",
        )
    return said == "tool"
