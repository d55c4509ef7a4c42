"""What a matcher of the two eyes is: a row in the table of the stage `matches`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.options import option
from utils.types import BoolArray, FloatArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class MatchOptions:
    """How the two eyes are matched."""

    matcher: str = option(
        "sift",
        "which features are matched",
        choices=("sift", "superpoint_superglue", "superpoint_lightglue", "aliked_lightglue"),
    )
    weights_dir: str = option(
        "", "folder of networks' weights, one folder a network; empty: the user's cache", affects_result=False
    )
    accept_license: bool = option(
        False, "accept the licences of the weights that have to be downloaded", affects_result=False
    )
    resize: tuple[int, ...] = option((640, 480), "width and height at which the rectified images are matched")
    match_max_dy: float = option(20.0, "largest row difference of a match, px of the --resize size")
    match_min_confidence: float = option(0.4, "smallest confidence of a match of a learned matcher")
    densify: str = option(
        "none",
        "dense matches besides: around every match (ncc), in the regions they seed (watershed)",
        choices=("none", "ncc", "watershed"),
    )
    device: str = option("auto", "auto, cpu or cuda", affects_result=False)
    viz: bool = option(True, "draw the matches of every frame", affects_result=False)
    allow_bad_calibration: bool = option(
        False, "go on where the matches contradict the calibration", affects_result=False
    )


@dataclass(frozen=True)
class Matches:
    """Pixel pairs (m, 2) with scores (m,) in [0, 1], 1 best."""

    pixels_left: FloatArray
    pixels_right: FloatArray
    score: FloatArray

    def select(self, chosen: BoolArray) -> Matches:
        """Return the chosen pairs."""
        return Matches(self.pixels_left[chosen], self.pixels_right[chosen], self.score[chosen])


Match = Callable[[tuple[Image, BoolArray], tuple[Image, BoolArray]], Matches]


def _nothing(_: MatchOptions) -> None:
    return None


def _no_files(_: MatchOptions) -> list[Path]:
    return []


@dataclass(frozen=True)
class Matcher:
    """A way to match two images of one size.

    Attributes:
        prepare: load what it needs; returns the function that matches two images (h, w, 3), each with its
            usable pixels (h, w).
        check: raise InputError for what is missing, before any stage runs.
        files: the files outside `logs/` that the result depends on.
        has_confidence: whether its score is a probability, which --match_min_confidence cuts.
    """

    prepare: Callable[[MatchOptions], Match]
    check: Callable[[MatchOptions], None] = _nothing
    files: Callable[[MatchOptions], list[Path]] = _no_files
    has_confidence: bool = False
