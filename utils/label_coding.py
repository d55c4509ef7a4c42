"""The value of each label in a mask PNG: tissue or not, or the class indices of labelme's labels.txt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.errors import InputError
from utils.types import BoolArray

IGNORE, BACKGROUND = "__ignore__", "_background_"  # labelme's own: the first two lines of every labels.txt
TISSUE, GREEN = 255, (0, 200, 80)


@dataclass(frozen=True, eq=False)
class Coding:
    """The value of each label in a mask, the colour of each value (256, 3), and whether the file keeps values.

    `tissue` are the labels that are tissue.
    """

    values: dict[str, int]
    colours: NDArray[np.uint8]
    tissue: frozenset[str]
    indexed: bool

    def tissue_in(self, painted: NDArray[np.uint8]) -> BoolArray:
        """Return (h, w): pixels whose value means tissue."""
        return np.isin(painted, [self.values[label] for label in self.tissue])

    def encode(self, painted: NDArray[np.uint8]) -> Image.Image:
        """Return the PNG's image: 0 and 255, or indices with a palette.

        Whoever reads the indices (Pillow) sees the classes; whoever reads colours (OpenCV, hence the stage
        `scene`) sees the tissue, for the palette is black where a class is none.
        """
        image = Image.fromarray(painted)
        if self.indexed:
            shown = self.tissue_in(np.arange(256, dtype=np.uint8))
            image.putpalette(np.where(shown[:, None], self.colours, 0).astype(np.uint8).tobytes())
        return image


def code_tissue(drawn: Iterable[str], tissue: frozenset[str]) -> Coding:
    """Return 255 for tissue, 0 for the other labels that were drawn."""
    colours = np.zeros((256, 3), np.uint8)
    colours[TISSUE] = GREEN
    return Coding({label: TISSUE * (label in tissue) for label in drawn}, colours, tissue, indexed=False)


def code_classes(drawn: Mapping[str, Path], tissue: frozenset[str], class_map: Path) -> Coding:
    """Return labelme's class indices. Raises InputError for a label without a class; `drawn` says where it is."""
    values = read_class_map(class_map)
    for label, path in drawn.items():
        if label not in values:
            raise InputError(
                f"{path}: a shape is called {label}, which has no class",
                found=f"{class_map} without {label}",
                expected="a line of the class map for every label",
                do=f"add {label} to {class_map.name}, or correct it in labelme",
            )
    return Coding(values, class_colours(), tissue, indexed=True)


def read_class_map(path: Path) -> dict[str, int]:
    """Read labelme's labels.txt: __ignore__ is 255, _background_ 0, the labels of the lines below 1, 2, ..."""
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").rstrip().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"--class_map {path} cannot be read",
            found=str(error),
            expected="labelme's labels.txt",
            do="correct the path, or save the file as UTF-8",
        ) from error
    if names[:2] != [IGNORE, BACKGROUND] or len(set(names)) < len(names) or "" in names or len(names) > 256:
        raise InputError(
            f"--class_map {path} is not a list of labels",
            found=f"{len(names)} lines, {len(set(names))} different ones, the first two {', '.join(names[:2])}",
            expected=f"{IGNORE}, {BACKGROUND}, then at most 254 labels, one a line and each once",
            do="correct the file",
        )
    return {name: (index - 1) % 256 for index, name in enumerate(names)}


def class_colours() -> NDArray[np.uint8]:
    """Return the (256, 3) colours of labelme and Pascal VOC: the bits of the index, dealt to R, G and B."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= (((index >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours
