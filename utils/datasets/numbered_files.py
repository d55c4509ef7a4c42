"""Files by the number in their name, and whether two sets of them and their sizes fit together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from utils.errors import InputError


def number_of(name: str) -> int | None:
    """Return the number in a file's name (`scene_points000012.tiff`: 12), its last where it has several."""
    digits = re.findall(r"\d+", Path(name).stem)
    return int(digits[-1]) if digits else None


def numbered(paths: Iterable[Path]) -> dict[int, Path]:
    """Return files by the number in their name, in that order.

    Raises:
        InputError: two files with one number.
    """
    found: dict[int, Path] = {}
    for path in sorted(paths):
        number = number_of(path.name)
        if number is None or path.name.startswith("."):
            continue
        if number in found:
            raise InputError(
                f"{path.parent}: two files carry the number {number}",
                found=f"{found[number].name} and {path.name}",
                expected="one file a frame",
                do=f"move one of them elsewhere: {path.name}",
            )
        found[number] = path
    return dict(sorted(found.items()))


def need_the_same(left: Mapping[int, Path], right: Mapping[int, Path], what: str) -> None:
    """Refuse two sets of numbered files that differ. Raises InputError."""
    lonely = sorted(set(left) ^ set(right))
    if not lonely:
        return
    has, other = (left, right) if lonely[0] in left else (right, left)
    folder = next(iter(other.values())).parent if other else "no folder"
    raise InputError(
        f"{has[lonely[0]]} has no {what}",
        found=f"{len(left)} and {len(right)} files; {len(lonely)} stand alone",
        expected=f"the same numbers in {has[lonely[0]].parent} and {folder}",
        do="add what is missing, or take the lonely files out",
    )


def common_size(paths: Iterable[Path]) -> tuple[int, int]:
    """Return the (width, height) that all image files have; reads their headers alone.

    Raises:
        InputError: a file that is no image, or sizes that differ.
    """
    first: tuple[Path, tuple[int, int]] | None = None
    for path in paths:
        size = picture_size(path)
        first = first or (path, size)
        if size != first[1]:
            raise InputError(
                f"{path} has another size than {first[0].name}",
                found=f"{size[0]}x{size[1]}",
                expected=f"{first[1][0]}x{first[1][1]}",
                do="make all images of the sequence one size, or take this one out",
            )
    if first is None:
        raise ValueError("no image")
    return first[1]


def picture_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image file from its header. Raises InputError where it has none."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as an image",
            found=f"{type(error).__name__}" if path.exists() else "no such file",
            expected="a complete png, jpg or tif image",
            do="get the file again, or take its frame out of the dataset",
        ) from error
