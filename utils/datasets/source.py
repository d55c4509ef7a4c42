"""What a reader found in a public dataset: frames with their images and maps, calibration, poses, findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from utils.types import BoolArray, FloatArray, Side

Verdict = Literal["ok", "warn", "refuse"]
Picture = Path | Callable[[], NDArray[np.uint8]]  # a file to take as it is, or what decodes (h, w, 3) RGB
Mask = Callable[[], BoolArray]  # (h, w), true on tissue
DepthMap = Callable[[], NDArray[np.float32]]  # (h, w) z-depth, mm; NaN unknown


@dataclass(frozen=True)
class Frame:
    """One moment: what each eye recorded. Nothing is decoded before it is asked for.

    `name` becomes the image's file name without ending. Depth is what the dataset gives to compare with; where it
    is no independent truth (stereo matching, say) a finding of the source says so.
    """

    name: str
    images: Mapping[Side, Picture]
    tissue: Mapping[Side, Mask] = field(default_factory=dict)
    depth_mm: Mapping[Side, DepthMap] = field(default_factory=dict)


@dataclass(frozen=True)
class Lens:
    """One eye: intrinsic matrix (3, 3), px, origin in the centre of the top-left pixel; OpenCV's distortion."""

    matrix: FloatArray
    distortion: tuple[float, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report: what was looked at, what was found there, and what it means."""

    verdict: Verdict
    subject: str
    words: str
    do: str = ""


@dataclass(frozen=True)
class Source:
    """A dataset as its reader understood it.

    Args:
        kind: the name of its layout, as `--kind` takes it.
        folder: where it lies.
        frames: in the order of time; names are unique and sort naturally in this order.
        image_size: (width, height) of every image, px.
        lenses: calibration of each eye that has images.
        right_from_left: (4, 4), mm, X_right = R X_left + t; None for one eye or where it is unknown.
        world_from_left: (n, 4, 4) camera-to-world, OpenCV axes, NaN where a frame has none; None without poses.
        metric: whether lengths of poses and baseline are millimetres.
        reads: files outside the folder that the result depends on too.
        train: names that the dataset's own protocol trains on; None where it has no split.
        test: names that it holds out; None where it has no split.
        moving_camera: False where the dataset is known to stand still while tissue moves; None where unknown.
        findings: what the reader noticed; a `refuse` among them stops the conversion.
        truth_mesh: a mesh of the true surface in the poses' world, mm; None where there is none.
    """

    kind: str
    folder: Path
    frames: tuple[Frame, ...]
    image_size: tuple[int, int]
    lenses: Mapping[Side, Lens]
    right_from_left: FloatArray | None = None
    world_from_left: FloatArray | None = None
    metric: bool = False
    reads: tuple[Path, ...] = ()
    train: tuple[str, ...] | None = None
    test: tuple[str, ...] | None = None
    moving_camera: bool | None = None
    findings: Sequence[Finding] = ()
    truth_mesh: Path | None = None
