"""Measure held-out quality over seconds of training and over rays seen, for fields and ways of sampling.

`python benchmarks/time_to_quality.py` writes `time_to_quality.md`, `.csv` and `.png` to `benchmarks/results/`.
Flags of `run.py` that are not listed by `--help` here reach every variant. Trainings that the same code finished
with the same options on this machine are not redone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, fields
from operator import attrgetter
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import quality_curves, setting
from benchmarks.heldout import HeldOut, as_product, as_trained
from benchmarks.quality_curves import Point, Run
from benchmarks.setting import Example
from nerf.fields import FIELDS, FieldOptions
from nerf.options import NerfOptions
from nerf.refinement import refine_pool
from nerf.trainer import Trainer
from nerf.training import CHUNK, build_trainer, threads_of_training
from utils.artifacts import record_hash
from utils.devices import choose_device
from utils.errors import InputError
from utils.options import stamped
from utils.scene import Scene, load_poses

VARIANTS: dict[str, tuple[str, ...]] = {
    "planes-guided": ("--field", "planes"),
    "planes-uniform": ("--field", "planes", "--no_depth_sampling"),
    "hash-guided": ("--field", "hash"),
    "hash-uniform": ("--field", "hash", "--no_depth_sampling"),
    # A refinement renders every training view: that would be a large part of its budget.
    "mlp": ("--field", "mlp", "--no_depth_refine"),
}
SLOW = "mlp"
# Shares of the schedule, or of the budget where that ends first, at which a model is scored.
MOMENTS = (0.005, 0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
CODE = (*setting.UPSTREAM_CODE, "nerf")
VERSION = 1  # raised when the same training is measured in another way
NOTES = (
    "The clock counts training steps and refinements; loading, compilation and scoring are not on it. *ms a step* "
    "is without refinements, *rays a second* with them. Scores are those of about {count} fixed held-out tissue "
    "pixels of both eyes, at {moments} moments of the schedule: PSNR with and without highlights, and depth raw, "
    "never aligned to the truth. Seconds to a PSNR (outside highlights) are those of the first *score* at or "
    "above it. Mean (least to most) over seeds. `uniform`: as many samples, spread over the whole ray; rays are "
    "still drawn by importance. `mlp`: the 8×256 network with the options of `planes-guided` but no refinement, "
    "stopped by the clock after {budget:.0f} s; the better of two renderings of it counts, the product's and that "
    "with its training samples."
)


class Clock:
    """Seconds of training so far, and those of the refinements among them."""

    def __init__(self) -> None:
        self.seconds = self.refining_s = 0.0


def main(argv: Sequence[str]) -> int:
    """Train every variant on every phantom, and write the tables after each; return the exit status."""
    given, extra = _parser().parse_known_args(argv)
    examples = setting.examples_of(given.rig, given, extra)
    try:
        measure(examples, _available(given.variants), given, setting.command_line("time_to_quality.py", argv))
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    sys.stdout.write("\n" + (given.out / "time_to_quality.md").read_text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    both, names = ("parallel", "verged"), tuple(VARIANTS)
    parser.add_argument("--rig", nargs="+", default=list(both), choices=both, help="default both")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--variants", nargs="+", default=list(names), choices=names, help="default all")
    parser.add_argument(
        "--one_seed_for",
        nargs="*",
        default=[SLOW],
        choices=names,
        help=f"variants that run on the first rig and seed alone; default {SLOW}",
    )
    parser.add_argument("--iters", type=int, help="training steps; default: the product's")
    parser.add_argument(
        "--mlp_budget", type=float, default=600.0, help="training seconds of mlp at most; default 600"
    )
    parser.add_argument("--score_rays", type=int, default=4000, help="held-out pixels that are scored")
    setting.add_example_flags(parser)
    return parser


def _available(names: Sequence[str]) -> list[str]:
    """Return the variants whose field there is, in the order of the table; say which are left out."""
    choices = next(field.metadata["choices"] for field in fields(FieldOptions) if field.name == "field")
    kept = []
    for name in (name for name in VARIANTS if name in names):
        kind = VARIANTS[name][1]
        if kind in FIELDS and kind in choices:
            kept.append(name)
        else:
            sys.stdout.write(f"{name} is left out: there is no field `{kind}` here\n")
    if not kept:
        raise InputError("no variant is left", found=" ".join(names), expected=" ".join(choices), do="name more")
    return kept


def measure(examples: Sequence[Example], variants: Sequence[str], given: argparse.Namespace, command: str) -> None:
    """Train and score every variant (some on the first phantom alone); write the tables after each."""
    jobs = [
        (example, variant)
        for example in examples
        for variant in variants
        if variant not in given.one_seed_for or example == examples[0]
    ]
    runs: list[Run] = []
    bar = tqdm(jobs, desc="time to quality", unit="run", position=0)
    for example, variant in bar:
        bar.set_postfix_str(f"{example.name} {variant}")
        runs.append(run_variant(example, variant, given))
        write(given, runs, command)


def run_variant(example: Example, variant: str, given: argparse.Namespace) -> Run:
    """Return the curve of one variant on one phantom: the one that is kept, or of a training now."""
    flags = [*example.flags(example.upstream), *setting.iterations_flags(given.iters), *VARIANTS[variant]]
    options = setting.read_options(flags)
    budget_s = given.mlp_budget if variant == SLOW else float("inf")
    made_from = {
        "code": setting.code_hash(CODE),
        "version": VERSION,
        "options": stamped(options["nerf"]),
        "extra": example.extra,
        "measured": [given.score_rays, str(budget_s)],
        "machine": setting.machine().rpartition(", commit")[0],
    }
    folder = setting.LOGS / "time_to_quality" / example.name
    path = folder / f"{variant}-{record_hash(made_from)}.csv"
    if not path.exists():
        root = setting.prepare(example)
        with threads_of_training(options["nerf"]):
            dataset, placed = Scene.load(root / "scene"), load_poses(root / "poses")
            heldout = HeldOut(dataset, placed, given.score_rays, options["evaluation"])
            curve = train(options["nerf"], root / "prior", heldout, budget_s)
        quality_curves.save_curve(path, curve)
    return Run(example, variant, quality_curves.load_curve(path))


def train(options: NerfOptions, prior: Path, heldout: HeldOut, budget_s: float) -> list[Point]:
    """Train until the schedule or the budget ends; return the scores at the moments."""

    def start() -> Trainer:
        device = choose_device(options.device)
        return build_trainer(options, heldout.dataset, heldout.placed, prior, device)

    start().advance()  # thrown away: it compiles
    trainer, clock = start(), Clock()
    # The large network may also be rendered with the samples that it was trained with.
    renders = [as_product] if options.field != SLOW else [as_product, as_trained]
    curve: list[Point] = []
    done = 0.0
    with tqdm(desc=options.field, unit="step", leave=False) as bar:
        for moment in MOMENTS:
            if done >= moment:
                continue  # one step took it beyond
            while done < moment:
                advance(trainer, clock)
                bar.update()
                done = max(trainer.step / options.N_iters, clock.seconds / budget_s)
            scores = max((heldout.scores(trainer, one) for one in renders), key=attrgetter("psnr_tissue"))
            rays = trainer.step * options.N_rand
            curve.append(Point(trainer.step, rays, clock.seconds, clock.refining_s, *astuple(scores)))
            bar.set_postfix_str(f"{clock.seconds:.0f} s, held-out PSNR {scores.psnr_no_highlight:.2f} dB")
    return curve


def advance(trainer: Trainer, clock: Clock) -> None:
    """Do one step, and the refinement that follows it, on the clock."""
    began = time.monotonic()
    trainer.advance()
    refining = trainer.options.refine_round_after(trainer.step) is not None
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    stepped = time.monotonic()
    if refining:
        refine_pool(trainer, CHUNK)
        clock.refining_s += time.monotonic() - stepped
    clock.seconds += time.monotonic() - began


def write(given: argparse.Namespace, runs: Sequence[Run], command: str) -> None:
    """Write the page, the points of all curves, and the picture."""
    given.out.mkdir(parents=True, exist_ok=True)
    notes = NOTES.format(count=given.score_rays, moments=len(MOMENTS), budget=given.mlp_budget)
    head = ["# Time to quality", "", f"- `{command}`", f"- {setting.machine()}", f"- {notes}", ""]
    picture = ["![Quality over seconds and rays](time_to_quality.png)", ""]
    lines = [*head, *quality_curves.tables(runs, SLOW), *picture]
    (given.out / "time_to_quality.md").write_text("\n".join(lines), encoding="utf-8")
    quality_curves.write_csv(given.out / "time_to_quality.csv", runs)
    quality_curves.draw(given.out / "time_to_quality.png", runs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
