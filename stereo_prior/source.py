"""What a stereo source is: a row in the table of the stage `stereo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stereo_prior.rectification import Rectification
from utils.options import option
from utils.scene import Scene
from utils.types import FloatArray, Side

Map = NDArray[np.float32]


@dataclass(frozen=True)
class StereoOptions:
    """Which programs match the two eyes, and how."""

    stereo: str = option("sgbm", "stereo sources, separated by commas: sgbm, sgbm_wls, pam, sttr, anynet, files")
    stereo_path: str = option("", "source files: folder of depth or disparity maps, or a COLMAP dense workspace")
    stereo_png_mm: float = option(0.0, "source files: mm per unit of depth PNGs (0: not given)")
    stereo_png_px: float = option(0.0, "source files: px per unit of disparity PNGs (0: not given)")
    datadir: str = option("", "folder of the dataset, as data_layout.md describes it", affects_result=False)
    image_dir: str = option("images", "folder of the images of each eye: images or rectify", affects_result=False)
    pam_weights: str = option("", "source pam: checkpoint to start from (published, or our own)")
    sttr_weights: str = option("", "source sttr: checkpoint to start from (published, or our own)")
    anynet_weights: str = option("", "source anynet: its published checkpoint")
    sttr_stride: int = option(3, "source sttr: px between the tokens that are matched")
    depth_N_iters: int = option(300, "steps of training pam or sttr on this scene; 0: as loaded")  # noqa: N815
    depth_lrate: float = option(1e-3, "learning rate of that training")
    depth_i_weights: int = option(100, "steps between two checkpoints of it", affects_result=False)
    seed: int = option(0, "seed of everything random: the same seed repeats the run")
    device: str = option("auto", "auto, cpu or cuda")


@dataclass(frozen=True, eq=False)
class DepthMaps:
    """What a source says of one eye, (h, w) in the pixels of the scene's image.

    Attributes:
        depth_mm: z-depth, mm; NaN unknown.
        sigma_mm: its standard deviation, mm; NaN where the depth is.
        confidence: 0 to 1, 1 best; 0 where the depth is unknown.
    """

    depth_mm: Map
    sigma_mm: Map
    confidence: Map


@dataclass(frozen=True, eq=False)
class Task:
    """The frames to measure.

    Attributes:
        found_px: per frame, the rectified disparities (m,), px, of its matches.
        work: the source's own folder, where it may keep checkpoints, tables and pictures.
    """

    options: StereoOptions
    scene: Scene
    rectification: Rectification
    matches: Path
    found_px: dict[str, FloatArray]
    work: Path


Measure = Callable[[str], dict[Side, DepthMaps]]


def _nothing(_: StereoOptions) -> None:
    return None


def _no_files(_: StereoOptions) -> list[Path]:
    return []


@dataclass(frozen=True)
class Source:
    """A way to measure depth from two eyes.

    Attributes:
        prepare: load weights, train where that is asked for; returns the function that measures a frame by name.
        options: the flags that the result depends on, besides `--stereo`: a change of others redoes nothing.
        check: raise InputError for what is wrong with the options, before any stage runs.
        files: the files outside `logs/` that the result depends on.
        threads: whether frames may be measured at the same time.
    """

    prepare: Callable[[Task], Measure]
    options: tuple[str, ...]
    check: Callable[[StereoOptions], None] = _nothing
    files: Callable[[StereoOptions], list[Path]] = _no_files
    threads: bool = True
