"""Measure how seconds and memory of every stage grow with frames, image size and samples a ray.

`python benchmarks/scaling.py` writes `scaling.md` and `scaling.csv` to `benchmarks/results/`. Every stage is a
process of its own, so that its peak memory is its own. Flags of `run.py` that are not listed by `--help` here
reach every case. Stages that the same code finished with the same options are not redone.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from benchmarks.setting import Example
from nerf.training import build_trainer, threads_of_training
from run import STAGES
from utils.devices import choose_device
from utils.errors import InputError
from utils.phantom import ensure_phantom
from utils.scene import Scene, load_poses
from utils.stages import peak_memory_mb, read_stamp

CASES = ("24x320x256", "72x320x256", "240x320x256", "24x640x512", "24x1280x1024")
BIG = "240x640x512"
SAMPLES = (4, 8, 16, 32)
WARM_UP = 20  # steps that are not timed: the first ones compile
# What a process does beside the stages: make the phantom, time steps, nothing.
PHANTOM, STEPS, NOTHING = "phantom", "steps", "nothing"
NOTES = (
    "Frames × width × height of the phantom, both eyes. *Seconds* are a stage's own, imports not counted; the "
    "stage `nerf` trains {iters} steps here, refinements included. *Memory* is the largest resident memory of the "
    "stage's process (of that or one that it starts), of which {nothing:.0f} MB are Python and its libraries. "
    "*ms a step* is the median over the {iters} steps of a training without refinements, the first {warm_up} left "
    "out. – : the stage has nothing to do, or was not asked for."
)
TRUE_POSES = "* Poses were not estimated: `--poses file` with the phantom's true ones."


@dataclass(frozen=True)
class Case:
    """A phantom, and whether its true poses stand for the estimated ones."""

    example: Example
    true_poses: bool = False

    @property
    def title(self) -> str:
        """Return the head of its column."""
        one = self.example
        return f"{one.frames} × {one.width}×{one.height}" + ("*" if self.true_poses else "")

    @property
    def root(self) -> Path:
        """Return the folder of its two experiments."""
        return setting.LOGS / "scaling" / (self.example.name + ("_true_poses" if self.true_poses else ""))


@dataclass(frozen=True)
class Cost:
    """What a stage of a case took; for training steps the seconds of one."""

    case: Case
    what: str
    samples: int
    seconds: float
    memory_mb: float


class Failed(Exception):
    """A process that measures came to no end."""


def main(argv: Sequence[str]) -> int:
    """Measure every case and write the tables after each stage; return the exit status."""
    if argv[:1] == ["--one"]:
        return _one(argv[1], argv[2:])
    given, extra = _parser().parse_known_args(argv)
    try:
        cases = [_case(text, given, extra) for text in given.cases]
        cases += [_case(given.big, given, extra, true_poses=True)] if given.big else []
        Page(given, setting.command_line("scaling.py", argv)).fill(cases)
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    sys.stdout.write("\n" + (given.out / "scaling.md").read_text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument(
        "--cases", nargs="*", default=list(CASES), help=f"frames x width x height; default {' '.join(CASES)}"
    )
    words = f"add a case up to the stage nerf, with the phantom's true poses; {BIG} unless it is given"
    parser.add_argument("--big", nargs="?", const=BIG, help=words)
    parser.add_argument("--samples", nargs="*", type=int, default=list(SAMPLES), help="a ray, in the first case")
    parser.add_argument("--iters", type=int, default=300, help="training steps; default 300")
    parser.add_argument("--rig", default="parallel", choices=("parallel", "verged"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=setting.RESULTS, help="folder for tables")
    return parser


def _case(text: str, given: argparse.Namespace, extra: Sequence[str], true_poses: bool = False) -> Case:
    """Read `24x320x256`."""
    words = text.split("x")
    if len(words) != 3 or not all(word.isdecimal() for word in words):
        raise InputError(f"--cases {text} is no case", found=text, expected=CASES[0], do="mend it")
    frames, width, height = (int(word) for word in words)
    example = Example(given.rig, given.seed, frames, width, height)
    flags = list(extra)
    if true_poses:
        data = Path(setting.read_options(example.flags(example.upstream))["scene"].datadir)
        flags += ["--poses", "file", "--poses_path", str(data / "truth_poses.npz")]
    return Case(Example(given.rig, given.seed, frames, width, height, tuple(flags)), true_poses)


class Page:
    """The tables, written again after each measurement."""

    def __init__(self, given: argparse.Namespace, command: str) -> None:
        self.given, self.command = given, command
        self.costs: list[Cost] = []
        self.failures: list[str] = []
        self.nothing_mb = _measured(NOTHING, [])[1]

    def fill(self, cases: Sequence[Case]) -> None:
        """Measure all cases; one that fails is told of, and the next one begins."""
        for index, case in enumerate(cases):
            samples = self.given.samples if index == 0 else []
            try:
                self._measure(case, samples)
            except Failed as failure:
                self.failures.append(f"{case.title}: {failure}")
                self._write()

    def _measure(self, case: Case, samples: Sequence[int]) -> None:
        upstream, field = case.root / "upstream", case.root / "field"
        setting.forget_where_code_changed(upstream, setting.UPSTREAM_CODE)
        setting.forget_where_code_changed(field, setting.ALL_CODE)
        iterations = setting.iterations_flags(self.given.iters)
        # In a process too: on Linux the peak of a child begins at its parent's.
        _run_process(PHANTOM, case.example.flags(upstream))
        for stage in setting.UPSTREAM:
            self._stage(case, stage, upstream, [])
        setting.share_upstream(upstream, field)
        after = [stage.name for stage in STAGES if stage.name not in setting.UPSTREAM]
        for stage in after[:1] if case.true_poses else after:
            self._stage(case, stage, field, iterations)
        flags = [*case.example.flags(field), *iterations]
        usual = setting.read_options(flags)["nerf"].N_samples
        for count in dict.fromkeys([usual, *samples]):
            ms, memory_mb = _measured(STEPS, [*flags, "--N_samples", str(count)])
            self._add(Cost(case, STEPS, count, ms / 1000.0, memory_mb))

    def _stage(self, case: Case, stage: str, experiment: Path, more: Sequence[str]) -> None:
        _run_process(stage, [*case.example.flags(experiment), *more])
        stamp = read_stamp(experiment / stage)
        if not stamp["skipped"]:
            self._add(Cost(case, stage, 0, stamp["seconds"], stamp["peak_memory_mb"]))

    def _add(self, cost: Cost) -> None:
        self.costs.append(cost)
        self._write()

    def _write(self) -> None:
        out: Path = self.given.out
        out.mkdir(parents=True, exist_ok=True)
        notes = NOTES.format(iters=self.given.iters, nothing=self.nothing_mb, warm_up=WARM_UP)
        lines = ["# Scaling", "", f"- `{self.command}`", f"- {setting.machine()}"]
        lines += [f"- {self.given.rig} rig, seed {self.given.seed}", f"- {notes}"]
        lines += [f"- {TRUE_POSES}"] if any(cost.case.true_poses for cost in self.costs) else []
        lines += [f"- Not measured: {failure}" for failure in self.failures]
        lines += ["", *report(self.costs)]
        (out / "scaling.md").write_text("\n".join(lines), encoding="utf-8")
        write_csv(out / "scaling.csv", self.costs)


def report(costs: Sequence[Cost]) -> list[str]:
    """Return the lines of the tables of what was measured so far."""
    stages = [cost for cost in costs if cost.what != STEPS]
    steps = [cost for cost in costs if cost.what == STEPS]
    lines = ["## Seconds a stage", "", *_stage_table(stages, "seconds", ".1f"), ""]
    lines += ["## Peak memory a stage, MB", "", *_stage_table(stages, "memory_mb", ".0f"), ""]
    if steps:
        usual = steps[0].samples
        rows = [(cost.case.title, cost) for cost in steps if cost.samples == usual]
        lines += [f"## A training step, {usual} samples a ray", "", *_step_table("case", rows), ""]
        rows = [(str(cost.samples), cost) for cost in steps if cost.case == steps[0].case]
        rows.sort(key=lambda row: row[1].samples)
        if len(rows) > 1:
            title = steps[0].case.title
            lines += [f"## A training step, {title}", "", *_step_table("samples a ray", rows), ""]
    return lines


def _stage_table(costs: Sequence[Cost], key: str, pattern: str) -> list[str]:
    cases = list(dict.fromkeys(cost.case for cost in costs))
    found = {(cost.what, cost.case): format(getattr(cost, key), pattern) for cost in costs}
    rows = [["stage", *(case.title for case in cases)]]
    for stage in (stage.name for stage in STAGES):
        rows.append([stage, *(found.get((stage, case), "–") for case in cases)])
    return setting.markdown_rows(rows)


def _step_table(word: str, rows: Sequence[tuple[str, Cost]]) -> list[str]:
    first = rows[0][1].seconds
    table = [[word, "ms a step", "times the first", "peak memory, MB"]]
    for title, cost in rows:
        table.append([title, f"{1000 * cost.seconds:.1f}", f"{cost.seconds / first:.2f}", f"{cost.memory_mb:.0f}"])
    return setting.markdown_rows(table)


def write_csv(path: Path, costs: Sequence[Cost]) -> None:
    """Write a line a stage or kind of step."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["rig", "seed", "frames", "width", "height", "poses", "what", "samples", "seconds", "peak_memory_mb"]
        )
        for cost in costs:
            one = cost.case.example
            poses = "true" if cost.case.true_poses else "estimated"
            size = (one.rig, one.seed, one.frames, one.width, one.height, poses)
            writer.writerow([*size, cost.what, cost.samples or "", f"{cost.seconds:.5g}", f"{cost.memory_mb:.0f}"])


def _run_process(work: str, flags: Sequence[str]) -> str:
    """Do one piece of work in a process of its own; return what it printed."""
    command = [sys.executable, __file__, "--one", work, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Failed(f"`{work}` ended with exit status {done.returncode}")
    return done.stdout


def _measured(work: str, flags: Sequence[str]) -> tuple[float, float]:
    """Return the two numbers that a process prints last: milliseconds and MB."""
    milliseconds, memory_mb = _run_process(work, flags).split()[-2:]
    return float(milliseconds), float(memory_mb)


def _one(work: str, flags: Sequence[str]) -> int:
    """Do one piece of work in this process; return the exit status."""
    try:
        if work == PHANTOM:
            options = setting.read_options(flags)
            ensure_phantom(Path(options["scene"].datadir), options["phantom"])
        elif work in (STEPS, NOTHING):
            milliseconds = 1000.0 * _seconds_a_step(flags) if work == STEPS else 0.0
            sys.stdout.write(f"{milliseconds:.3f} {peak_memory_mb():.0f}\n")
        else:
            setting.run_product(flags, start=work, until=work)
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    return 0


def _seconds_a_step(flags: Sequence[str]) -> float:
    """Train without refinements; return the median seconds of the steps after the first ones."""
    sections = setting.read_options(flags)
    options = sections["nerf"]
    root = Path(sections["experiment"].basedir) / sections["experiment"].expname
    with threads_of_training(options):
        dataset, placed = Scene.load(root / "scene"), load_poses(root / "poses")
        trainer = build_trainer(options, dataset, placed, root / "prior", choose_device(options.device))
        seconds = []
        for _ in range(options.N_iters):
            began = time.monotonic()
            trainer.advance()
            seconds.append(time.monotonic() - began)
    return float(np.median(seconds[min(WARM_UP, len(seconds) // 2) :]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
