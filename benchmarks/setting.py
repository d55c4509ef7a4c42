"""What the benchmarks share: phantoms by seed, the product's own stages on them, and a line about the machine."""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from run import SECTIONS, STAGES
from utils.errors import InputError
from utils.experiment import open_experiment
from utils.options import parse_options
from utils.phantom import DEPTH_PNG_MM, ensure_phantom
from utils.reference_flags import RETIRED
from utils.stages import choose, run_stages, skipped

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "logs" / "benchmarks"
RESULTS = ROOT / "benchmarks" / "results"
BEFORE_PRIORS = ("scene", "matches", "poses")
UPSTREAM = (*BEFORE_PRIORS, "stereo", "monocular", "prior")
UPSTREAM_CODE = ("utils", "stereo_prior", "monocular")
ALL_CODE = (*UPSTREAM_CODE, "nerf", "evaluation", "export")
USUAL_SIZE = (24, 320, 256)


@dataclass(frozen=True)
class Example:
    """One phantom: `rig` parallel or verged; stereo frames of width x height px. Its seed seeds the job too."""

    rig: str
    seed: int
    frames: int
    width: int
    height: int
    extra: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return what its folders are called: rig and seed, and the size where it is not the usual one."""
        unusual = (self.frames, self.width, self.height) != USUAL_SIZE
        return f"{self.rig}{self.seed}" + (f"_{self.frames}x{self.width}x{self.height}" if unusual else "")

    @property
    def upstream(self) -> Path:
        """Return the experiment whose stages up to `prior` every variant shares."""
        return LOGS / self.name

    @property
    def data(self) -> Path:
        """Return the folder of its images."""
        return ROOT / "data" / "benchmarks" / self.name

    def flags(self, experiment: Path) -> list[str]:
        """Return the flags of `run.py` for this phantom and an experiment: the defaults, with both eyes."""
        sizes = {"frames": self.frames, "width": self.width, "height": self.height, "seed": self.seed}
        return [
            *("--basedir", str(experiment.parent), "--expname", experiment.name),
            *("--datadir", str(self.data), "--phantom", self.rig),
            *(word for name, number in sizes.items() for word in (f"--phantom_{name}", str(number))),
            *("--seed", str(self.seed), "--depth_png_mm", str(DEPTH_PNG_MM), "--train_binocular"),
            *self.extra,
        ]


def add_example_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the size of the phantoms and the folder for results."""
    for name, usual in zip(("frames", "width", "height"), USUAL_SIZE, strict=True):
        parser.add_argument(f"--{name}", type=int, default=usual, help=f"of the phantom; default {usual}")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for tables")


def examples_of(rigs: Sequence[str], given: argparse.Namespace, extra: Sequence[str]) -> list[Example]:
    """Return the phantoms that a benchmark's flags ask for: every seed of every rig, with flags of `run.py`."""
    size = given.frames, given.width, given.height
    return [Example(rig, seed, *size, tuple(extra)) for rig in rigs for seed in given.seeds]


def read_options(flags: Sequence[str]) -> dict[str, Any]:
    """Return the options of every stage, as `run.py` reads them. Raises InputError for unknown flags."""
    options, _ = parse_options(SECTIONS, RETIRED, flags)
    return options


def run_product(flags: Sequence[str], start: str = "", until: str = "") -> Path:
    """Bring the stages from `start` to `until` up to date as `run.py` does; return the experiment's folder."""
    options = read_options(flags)
    root, _ = open_experiment(options["experiment"])
    ensure_phantom(Path(options["scene"].datadir), options["phantom"])
    run_stages(STAGES, options, root, chosen=choose([stage.name for stage in STAGES], "", start, until))
    return root


@functools.cache
def prepare(example: Example) -> Path:
    """Make the phantom and its stages up to `prior` where they are not there yet; return their experiment.

    Raises InputError where no camera could be placed: there is nothing to train on.
    """
    forget_where_code_changed(example.upstream, UPSTREAM_CODE)
    root = run_product(example.flags(example.upstream), until="prior")
    reason = skipped(root / "poses")
    if reason:
        raise InputError(
            f"{example.name} cannot be trained on",
            found=reason,
            expected="camera poses",
            do="take more frames or larger images",
        )
    return root


def forget_where_code_changed(experiment: Path, packages: Sequence[str]) -> None:
    """Remove the folders that other code made: stamps know options and versions, not every edit of a day."""
    mark, now = experiment / "code.txt", code_hash(tuple(packages))
    if mark.exists() and mark.read_text() == now:
        return
    for stage in STAGES:
        for folder in (experiment / stage.name, experiment / f"{stage.name}.partial"):
            if folder.exists() and not folder.is_symlink():
                shutil.rmtree(folder)
    experiment.mkdir(parents=True, exist_ok=True)
    mark.write_text(now)


@functools.cache
def code_hash(packages: tuple[str, ...]) -> str:
    """Return a hash of what packages do when first asked: their syntax trees, so that comments do not count."""
    digest = hashlib.sha256()
    for path in sorted(path for name in packages for path in (ROOT / name).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)} {ast.dump(ast.parse(path.read_text()))}".encode())
    return digest.hexdigest()[:16]


def share_upstream(upstream: Path, experiment: Path, stages: Sequence[str] = UPSTREAM) -> None:
    """Link finished upstream stages into another experiment.

    Stamps depend on options and inputs alone, so the runner takes the links for the experiment's own folders.
    """
    experiment.mkdir(parents=True, exist_ok=True)
    for name in stages:
        link = experiment / name
        if link.is_symlink():
            link.unlink()
        link.symlink_to(os.path.relpath(upstream / name, experiment), target_is_directory=True)


def iterations_flags(iterations: int | None) -> list[str]:
    """Return the flags for a training of so many steps, its refinements moved in proportion; None: the default."""
    if iterations is None:
        return []
    usual = read_options(())["nerf"]
    moved = {
        name: max(1, round(getattr(usual, name) * iterations / usual.N_iters))
        for name in ("depth_refine_start", "depth_refine_period")
    }
    return ["--N_iters", str(iterations), *(w for name, steps in moved.items() for w in (f"--{name}", str(steps)))]


def machine() -> str:
    """Return one line: processor, cores, threads of torch, version of torch, GPU, commit."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = found[1] if found else platform.processor() or platform.machine()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, commit {COMMIT}"
    return f"{processor}, {threads}, {device}; {versions}"


def _commit() -> str:
    """Return the commit that is measured, `-dirty` where files differ from it."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "no commit"


COMMIT = _commit()  # as this process loaded its code: the tree may change while it measures


def command_line(script: str, argv: Sequence[str]) -> str:
    """Return the command that repeats a benchmark."""
    return shlex.join(["python", f"benchmarks/{script}", *argv])


def markdown_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose first row is its head and whose first column holds words."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:]]
