"""A small program with the stage runner and sweeps of the real one: it takes a second, and says what it made.

`made.txt` beside the logs gets a line for every stage that is computed. `--hang` waits in the middle of `train`,
until a file `go` lies there; `--fail` fails as often as it says.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.options import SweepOptions, asked
from utils.artifacts import read_json, write_json
from utils.errors import InputError
from utils.experiment import ExperimentOptions, open_experiment, say_error
from utils.folder_lock import only_one
from utils.options import flags_of, option, parse_options
from utils.stages import Stage, choose, run_stages


@dataclass(frozen=True)
class SceneOptions:
    """Of the stage `scene`."""

    datadir: str = option("", "where the number lies and the records go")


@dataclass(frozen=True)
class PriorOptions:
    """Of the stage `prior`."""

    datadir: str = option("", "where the number lies and the records go")
    shift: float = option(1.0, "added")


@dataclass(frozen=True)
class TrainOptions:
    """Of the stage `train`."""

    datadir: str = option("", "where the number lies and the records go")
    factor: float = option(2.0, "multiplied by")
    seed: int = option(0, "added in thousandths")
    unused: int = option(0, "has no effect", affects_result=False)
    hang: bool = option(False, "wait in the middle", affects_result=False)
    fail: int = option(0, "how often to fail", affects_result=False)


@dataclass(frozen=True)
class EvaluationOptions:
    """Of the stage `evaluation`."""

    datadir: str = option("", "where the number lies and the records go")


def note(datadir: str, line: str) -> None:
    with open(Path(datadir) / "made.txt", "a") as file:
        file.write(line + "\n")


def scene(options: SceneOptions, *, out: Path) -> str:
    note(options.datadir, "scene")
    write_json(out / "value.json", int((Path(options.datadir) / "number.txt").read_text()))
    return "read"


def prior(options: PriorOptions, *, out: Path, scene: Path) -> str:
    note(options.datadir, f"prior {options.shift:g}")
    write_json(out / "value.json", read_json(scene / "value.json") + options.shift)
    return "shifted"


def train(options: TrainOptions, *, out: Path, prior: Path) -> str:
    datadir = Path(options.datadir)
    if not (out / "half.json").exists():
        note(options.datadir, f"train {options.factor:g} {options.seed} first half")
        write_json(out / "half.json", read_json(prior / "value.json") * options.factor)
        while options.hang and not (datadir / "go").exists():
            time.sleep(0.05)
    failed = datadir / f"failed_{options.factor:g}_{options.seed}"
    if options.fail and (len(failed.read_text()) if failed.exists() else 0) < options.fail:
        with open(failed, "a") as file:
            file.write("x")
        raise RuntimeError("the lamp went out")
    note(options.datadir, f"train {options.factor:g} {options.seed} second half")
    write_json(out / "value.json", read_json(out / "half.json") + options.seed / 1000)
    return "trained"


def check(options: TrainOptions) -> None:
    if options.factor < 0:
        raise InputError(
            "--factor is negative", found=str(options.factor), expected="a positive number", do="mend it"
        )


def evaluation(options: EvaluationOptions, *, out: Path, train: Path) -> str:
    note(options.datadir, "evaluation")
    value = read_json(train / "value.json")
    depth = {"filter": {"test": {"left": {"tissue": {"raw": {"abs_rel": value}}}}}}
    rgb = {"test": {"left": {"tissue": {"psnr": 30 + value}}}}
    write_json(out / "metrics.json", {"metric": True, "depth": depth, "rgb": rgb, "runtime_s": {"train": 1.5}})
    return "scored"


STAGES = [
    Stage("scene", scene, SceneOptions, (), files=lambda options: [Path(options.datadir) / "number.txt"]),
    Stage("prior", prior, PriorOptions, ("scene",)),
    Stage("train", train, TrainOptions, ("prior",), check=check, resumable=True),
    Stage("evaluation", evaluation, EvaluationOptions, ("train",)),
]
SECTIONS: dict[str, type] = {"experiment": ExperimentOptions, "sweep": SweepOptions}
SECTIONS |= {stage.name: stage.options for stage in STAGES}


def read(words: Sequence[str]) -> dict[str, Any]:
    return parse_options(SECTIONS, {}, words)[0]


def main(argv: list[str]) -> int:
    try:
        options = read(argv)
        if asked(options["sweep"]):
            from sweeps.scenes import Pipeline
            from sweeps.sweep import run_sweep  # a run that is no sweep starts faster without

            flags = [flag for section in SECTIONS.values() for flag in flags_of(section)]
            program = Path(os.path.abspath(__file__))
            return run_sweep(argv, options["sweep"], Pipeline(STAGES, read, flags, (), lambda _: (), program))
        experiment = options["experiment"]
        root, _ = open_experiment(experiment)
        with only_one(root, wait=experiment.sweep_task):
            chosen = choose([stage.name for stage in STAGES], experiment.only, experiment.start, experiment.until)
            run_stages(STAGES, options, root, chosen=chosen)
    except InputError as error:
        say_error(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
