"""Look at the headers of depth and disparity maps: size, bits and channels, decoding only where it must be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from utils.artifacts import NO_ARRAYS
from utils.errors import InputError
from utils.images import read_map, read_rgb

Kind = Literal["depth", "disparity"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_GREY = 0
_PNG_CHANNELS = {0: "grey", 2: "colour", 3: "palette", 4: "grey with alpha", 6: "colour with alpha"}


@dataclass(frozen=True)
class Unit:
    """What one unit of a PNG is worth, mm or px, None where nobody said so; and the flag that says it."""

    worth: float | None
    flag: str

    def check(self) -> None:
        """Raise InputError for a worth that is not positive."""
        if self.worth is not None and not (np.isfinite(self.worth) and self.worth > 0):
            raise InputError(
                f"{self.flag} is no unit",
                found=str(self.worth),
                expected="a positive number",
                do="give what one unit of the PNG is worth",
            )


@dataclass(frozen=True)
class MapHeader:
    """Size of a stored map, and for PNG its bits per sample and its colour type."""

    width: int
    height: int
    bits: int | None = None
    colour_type: int = _PNG_GREY


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image as it is read. Raises InputError when it cannot be decoded."""
    height, width = read_rgb(path).shape[:2]
    return width, height


def read_header(path: Path) -> MapHeader:
    """Return the header of a map (png, npy, pfm); other formats are decoded.

    Raises:
        InputError: the file cannot be read, or holds more than one channel.
    """
    try:
        ending = path.suffix.lower()
        if ending == ".png":
            return _png_header(path)
        if ending == ".npy":
            return _array_header(np.load(path, mmap_mode="r", allow_pickle=False).shape)
        if ending == ".pfm":
            return _pfm_header(path)
        return _array_header(read_map(path).shape)
    except (*NO_ARRAYS, cv2.error) as error:
        raise InputError(
            f"{path} cannot be read as a map",
            found=f"{type(error).__name__}: {error}",
            expected="one channel of numbers as png, npy, npz, tiff, pfm or exr",
            do="write the file again, or remove it",
        ) from error


def _png_header(path: Path) -> MapHeader:
    with open(path, "rb") as file:
        head = file.read(26)
    if len(head) < 26 or not head.startswith(_PNG_SIGNATURE):
        raise ValueError("not a PNG")
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return MapHeader(width, height, head[24], head[25])


def _pfm_header(path: Path) -> MapHeader:
    with open(path, "rb") as file:
        kind, size = file.readline().strip(), file.readline().split()
    if kind != b"Pf" or len(size) != 2:
        raise ValueError(f"PFM header {kind!r}, a map of one channel starts with Pf")
    return MapHeader(int(size[0]), int(size[1]))


def _array_header(shape: tuple[int, ...]) -> MapHeader:
    if len(shape) != 2:
        raise ValueError(f"an array of shape {shape}, a map has two axes")
    return MapHeader(shape[1], shape[0])


def check_map_file(
    path: Path,
    kind: Kind,
    unit: Unit,
    image: Path,
    size: tuple[int, int],
) -> None:
    """Raise InputError where a map cannot be what it claims.

    Args:
        path: the map.
        kind: what it holds.
        unit: what one unit of a PNG is worth.
        image: the image that it belongs to, for the message.
        size: (width, height) of that image.
    """
    header = read_header(path)
    if header.bits is not None:
        _check_png(path, kind, unit, header)
    if (header.width, header.height) != size:
        raise InputError(
            f"{path} has another size than its image {image}",
            found=f"{header.width} x {header.height}",
            expected=f"{size[0]} x {size[1]}",
            do="give maps in the pixels of the stored image (before --factor and undistortion)",
        )


def _check_png(path: Path, kind: Kind, unit: Unit, header: MapHeader) -> None:
    if header.colour_type != _PNG_GREY:
        raise InputError(
            f"{path} is a picture, not a {kind} map",
            found=f"a {_PNG_CHANNELS.get(header.colour_type, 'strange')} PNG",
            expected="a PNG of one grey channel",
            do=f"export the {kind} values themselves, not a colour picture of them",
        )
    if kind == "depth" and header.bits != 16:
        raise InputError(
            f"{path} cannot hold depth",
            found=f"a PNG of {header.bits} bits",
            expected="16 bits: 256 steps are a picture of depth, not a measurement",
            do="export uint16, or floats in mm as .npy, .tiff or .pfm",
        )
    if unit.worth is None:
        word = "mm" if kind == "depth" else "px"
        raise InputError(
            f"{path} is a PNG, whose unit nobody gave",
            found=f"no {unit.flag}",
            expected=f"{unit.flag}: how many {word} one unit of the PNG is worth",
            do=f"add `{unit.flag} = ...` to the configuration (0.01 where 5000 means 50 {word})",
        )
