"""What a source of monocular depth is: a row in the table of the stage `monocular`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.options import option
from utils.views import View, Views

Map = NDArray[np.float32]
Predict = Callable[[View], Map]  # relative inverse depth (h, w) of a view's image, NaN unknown

CHOICES = ("auto", "none", "small", "depth_anything", "dpt", "files")


@dataclass(frozen=True)
class MonocularOptions:
    """Which network sees depth in single images."""

    monocular: str = option(
        "auto",
        "depth from single images; auto: small for one eye or with --ns_path, else none; small: trained on the "
        "scene; depth_anything, dpt: pretrained; files: --monocular_path",
        choices=CHOICES,
    )
    monocular_path: str = option(
        "", "source `files`: folder with a map of inverse depth, of any scale, a frame (two eyes: in l/ and r/)"
    )
    monocular_iters: int = option(300, "steps that the small network is trained")
    monocular_lrate: float = option(2e-3, "highest learning rate of the small network")
    ns_path: str = option(
        "",
        "logs/<expname> of a finished run of the same dataset: the small network learns from its field's renders",
    )
    ns_loss_weight: float = option(0.0, "weight of that loss, with --ns_path (0: off)")
    weights_dir: str = option(
        "", "folder of networks' weights, one folder a network; empty: the user's cache", affects_result=False
    )
    accept_license: bool = option(
        False, "accept the licences of the weights that have to be downloaded", affects_result=False
    )
    device: str = option("auto", "auto, cpu or cuda")
    datadir: str = option(
        "", "dataset folder with l/images, calib.yaml and, for two eyes, r/images", affects_result=False
    )
    expname: str = option("", "name of the experiment: its folder under basedir", affects_result=False)
    basedir: str = option("./logs", "folder of all experiments", affects_result=False)
    image_dir: str = option(
        "images",
        "folder of the images inside l and r: images or rectify",
        choices=("images", "rectify"),
        affects_result=False,
    )
    seed: int = option(0, "makes a run repeat")


@dataclass(frozen=True, eq=False)
class Task:
    """The views to predict.

    Attributes:
        views: the scene, with its poses where there are any.
        matches, poses: folders of these stages.
        work: the folder to write into.
    """

    options: MonocularOptions
    views: Views
    matches: Path
    poses: Path
    work: Path


def _nothing(_: MonocularOptions) -> None:
    return None


def _no_files(_: MonocularOptions) -> list[Path]:
    return []


@dataclass(frozen=True)
class Source:
    """A way to see depth in one image.

    Attributes:
        prepare: load weights, train where that is asked for; returns the function that predicts a view.
        options: the flags that the result depends on, besides `--monocular`: a change of others redoes nothing.
        check: raise InputError for what is wrong with the options, before any stage runs.
        files: the files outside `logs/` that the result depends on.
    """

    prepare: Callable[[Task], Predict]
    options: tuple[str, ...]
    check: Callable[[MonocularOptions], None] = _nothing
    files: Callable[[MonocularOptions], list[Path]] = _no_files
