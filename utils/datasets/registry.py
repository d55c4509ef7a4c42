"""The kinds of datasets that can be read, and which of them a folder is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from utils.datasets import c3vd, colmap, endonerf, hamlyn, llff, scared, specula, stereomis
from utils.datasets.options import ReaderOptions
from utils.datasets.source import Source
from utils.errors import InputError

AUTO = "auto"


class Reader(Protocol):
    """What a module of a kind has."""

    def read(self, folder: Path, options: ReaderOptions) -> Source:
        """Return what lies in a folder; nothing large is decoded yet."""

    def looks_like(self, folder: Path) -> bool:
        """Whether a folder has this layout, told by names alone."""


@dataclass(frozen=True)
class Kind:
    """A layout: the module that reads it, and one line about what it looks for."""

    reader: Reader
    layout: str


KINDS: dict[str, Kind] = {
    "endonerf": Kind(endonerf, "images, poses_bounds.npy and masks (nonzero = tool) or depth (PNG, mm)"),
    "llff": Kind(llff, "images (or images_4, images_8) and poses_bounds.npy"),
    "colmap": Kind(colmap, "images (or images/left, images/right) and sparse/0 with a COLMAP model"),
    "scared": Kind(scared, "a keyframe: endoscope_calibration.yaml with Left_Image.png or data/rgb.mp4"),
    "hamlyn": Kind(hamlyn, "image01, image02, depth01 (PNG, mm); intrinsics.txt here or in calibration/NN"),
    "stereomis": Kind(stereomis, "StereoCalibration.ini with one mp4 (left above right) or video_frames"),
    "c3vd": Kind(c3vd, "0000_color.png (or rgb/), 0000_depth.tiff and pose.txt"),
    "specula": Kind(specula, "l/images: this program's own layout, to check it or to take some of its frames"),
}


def kind_of(folder: Path, kind: str = AUTO) -> str:
    """Return the kind to read a folder as: the one that was named, or the one that it looks like.

    Raises:
        InputError: no such folder or kind, a folder that looks like none or like several.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder", found="no folder of this name", expected="a dataset", do="correct the path"
        )
    if kind in KINDS:
        return kind
    known = "".join(f"\n            {name}: {entry.layout}" for name, entry in KINDS.items())
    if kind != AUTO:
        raise InputError(
            f"no kind is called {kind}", found=kind, expected=f"auto, or one of{known}", do="name one"
        )
    seen = [name for name, entry in KINDS.items() if entry.reader.looks_like(folder)]
    if len(seen) == 1:
        return seen[0]
    lies = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    raise InputError(
        f"{folder} looks like {' and '.join(seen)}" if seen else f"{folder} looks like no known dataset",
        found=lies,
        expected=f"one of{known}",
        do="name the kind (--kind), or correct the path: it may be a folder above or below",
    )


def read_source(folder: Path, kind: str, options: ReaderOptions) -> Source:
    """Return what lies in a folder, read as the kind that was named, or as `auto` finds."""
    options.require_sensible()
    source = KINDS[kind_of(folder, kind)].reader.read(folder, options)
    return source if options.poses else replace(source, world_from_left=None)
