"""The whole program on a tiny phantom: six stereo frames of 112 x 96 px, sixty training steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import run as program
from nerf.losses import Losses
from nerf.trainer import Trainer
from utils.artifacts import read_json
from utils.images import write_rgb
from utils.phantom import PhantomOptions, make_phantom
from utils.stages import STAMP, read_stamp
from utils.types import Side

STAGES = (
    *("scene", "matches", "poses", "stereo", "monocular", "prior"),
    *("nerf", "render", "filter", "export", "evaluation"),
)
TEST_FRAME = "5"  # of six
FAST = """--N_iters 60 --N_rand 512 --planes_finest 64 --resize 320 256 --depth_refine_start 30
    --depth_refine_period 20 --i_print 10 --i_weights 20 --monocular_iters 20 --depth_png_mm 0.01 --device cpu"""
SIDES: tuple[Side, Side] = ("left", "right")


class Session:
    """A dataset and a logs folder, and the program run on them."""

    def __init__(self, root: Path, datadir: Path, *words: str) -> None:
        self.datadir, self.basedir = datadir, root / "logs"
        self.logs = self.basedir / "tiny"
        self.words = [*FAST.split(), *words]

    def run(self, *words: str) -> int:
        """Run the program with more words, in one thread: the images are too small for two. Return its status."""
        named = ["--expname", "tiny", "--basedir", str(self.basedir), "--datadir", str(self.datadir)]
        torch.set_num_threads(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "set_num_threads", lambda _: None)
            return program.main([*named, *self.words, *words])

    def stamps(self) -> dict[str, int]:
        return {name: (self.logs / name / STAMP).stat().st_mtime_ns for name in STAGES}

    def skipped(self) -> dict[str, str]:
        stamps = {name: read_stamp(self.logs / name) for name in STAGES if (self.logs / name / STAMP).exists()}
        return {name: stamp["skipped"] for name, stamp in stamps.items() if stamp["skipped"]}

    def metrics(self) -> Any:
        return read_json(self.logs / "evaluation" / "metrics.json")

    def weights(self) -> bytes:
        return (self.logs / "nerf" / "field.safetensors").read_bytes()

    def until_prior(self, root: Path) -> Session:
        """Return a session that starts from a copy of everything before training."""
        other = Session(root, self.datadir)
        other.words = list(self.words)
        for name in STAGES[: STAGES.index("nerf")]:
            shutil.copytree(self.logs / name, other.logs / name)
        return other


def phantom(folder: Path, frames: int = 6) -> Path:
    make_phantom(folder, PhantomOptions("parallel", 0, frames, 112, 96))
    return folder


def with_noise(data: Path, folder: Path, sides: str = "lr") -> Path:
    """Copy a dataset, with noise in the place of its test images."""
    shutil.copytree(data, folder)
    rng = np.random.default_rng(7)
    for side in sides:
        image = rng.integers(0, 255, (96, 112, 3), dtype=np.uint8)
        write_rgb(folder / side / "images" / f"{TEST_FRAME}.jpg", image)
    return folder


def same(clean: Session, noisy: Session, path: str) -> bool:
    return (clean.logs / path).read_bytes() == (noisy.logs / path).read_bytes()


class interrupted:  # noqa: N801 - reads as a word in a `with` line
    """Raise in the n-th call of a method of the trainer."""

    def __init__(self, method: str, before_call: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.method, self.calls, self.error = method, before_call, error
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        original: Callable[..., Losses] = getattr(Trainer, self.method)

        def counting(trainer: Trainer, *arguments: Any) -> Losses:
            self.calls -= 1
            if self.calls == 0:
                raise self.error
            return original(trainer, *arguments)

        self.patch.setattr(Trainer, self.method, counting)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


def depth_tables(metrics: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for method, splits in metrics["depth"].items():
        for split, sides in splits.items():
            for side, regions in sides.items():
                for region, alignments in regions.items():
                    for alignment, values in alignments.items():
                        yield f"{method} {split} {side} {region} {alignment}", values
