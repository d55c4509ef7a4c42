"""Switch one part of the field off at a time, over several phantoms, and write what each part is worth.

`python benchmarks/ablation.py` writes `benchmarks/results/ablation.md` and, a line a run, `ablation.csv`.
Flags of `run.py` that are not listed by `--help` here reach every variant. Runs that the same code finished with
the same options are not redone.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from benchmarks.setting import Example
from utils.artifacts import read_json
from utils.errors import InputError
from utils.stages import read_stamp, skipped

VARIANTS: dict[str, tuple[str, ...]] = {
    "full": (),
    "no-guidance": ("--mask_guide_sample_rate", "0"),
    "no-depth-sampling": ("--no_depth_sampling",),
    "no-lamp": ("--lamp", "False"),
    "no-refinement": ("--no_depth_refine",),
    "no-exposure": ("--exposure", "False"),
    "left-only": ("--train_binocular", "False"),
    "no-depth-loss": ("--depth_loss_weight", "0"),
}
# Variants with another prior: they share poses alone, and run only when they are named.
PRIORS: dict[str, tuple[str, ...]] = {
    "no-fusion": ("--no_fusion",),
    "monocular": ("--monocular", "small"),
    "fused": ("--stereo", "sgbm,sgbm_wls", "--monocular", "small"),
    "fused-pam": ("--stereo", "sgbm,pam", "--monocular", "small"),
}
# Score -> title and format of its column, and +1 where more is better, -1 where less is, 0 where neither.
COLUMNS: dict[str, tuple[str, str, int]] = {
    "prior_abs_rel": ("prior's abs_rel", ".5f", 0),
    "abs_rel": ("abs_rel", ".5f", -1),
    "coverage": ("coverage", ".2%", 0),
    "psnr_tissue": ("PSNR tissue, dB", ".2f", 1),
    "psnr_no_highlight": ("PSNR outside highlights, dB", ".2f", 1),
    "seconds": ("training, s", ".0f", 0),
}
NOTES = (
    "Held-out frames, tissue, both eyes (mean of left and right); depth is the field's, raw, without any "
    "alignment to the truth. The prior of those views comes from their own images, which the field never saw. "
    "Mean ± standard deviation over seeds (a seed makes another organ, path and noise, and another training); "
    "Δ is the mean ± standard deviation of the paired difference to `full` on the same seed; `full better` "
    "counts the seeds where it is, in abs_rel, PSNR tissue, PSNR outside highlights."
)


@dataclass(frozen=True)
class Run:
    """The scores of one variant on one phantom; NaN where a score could not be computed."""

    example: Example
    variant: str
    scores: Mapping[str, float]


def main(argv: Sequence[str]) -> int:
    """Run every variant on every phantom, and write the table after each; return the exit status."""
    given, extra = _parser().parse_known_args(argv)
    examples = setting.examples_of(given.rig, given, extra)
    try:
        once = _known(filter(None, given.one_seed_for.split(",")))
        wanted = _known(given.variants or VARIANTS)
        measure(examples, wanted, once, given, setting.command_line("ablation.py", argv))
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    sys.stdout.write("\n" + (given.out / "ablation.md").read_text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--rig", nargs="+", default=["parallel"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--iters", type=int, help="training steps; default: the product's")
    names = f"some of: {' '.join(VARIANTS)} (default all of these), {' '.join(PRIORS)}"
    parser.add_argument("--variants", nargs="+", help=names)
    parser.add_argument("--one_seed_for", default="", help="variants that run on the first seed alone, a,b,…")
    setting.add_example_flags(parser)
    return parser


def _known(names: Any) -> list[str]:
    """Return the variants in the order of the table, `full` always among them where there is any."""
    chosen = set(names)
    known = [*VARIANTS, *PRIORS]
    unknown = sorted(chosen - set(known))
    if unknown:
        raise InputError(
            f"no such variant: {unknown[0]}", found=unknown[0], expected=", ".join(known), do="name one of them"
        )
    return [name for name in known if name in chosen]


def measure(
    examples: Sequence[Example],
    variants: Sequence[str],
    once: Sequence[str],
    given: argparse.Namespace,
    command: str,
) -> None:
    """Train and score every variant (those in `once` on the first seed alone); write tables after each run."""
    # Without `full` there is no paired difference.
    names = list(dict.fromkeys(["full", *variants]))
    jobs = [
        (example, variant)
        for example in examples
        for variant in names
        if variant not in once or example.seed == given.seeds[0]
    ]
    runs: list[Run] = []
    bar = tqdm(jobs, desc="ablation", unit="run", position=0)
    for example, variant in bar:
        bar.set_postfix_str(f"{example.name} {variant}")
        runs.append(run_variant(example, variant, setting.iterations_flags(given.iters)))
        write_tables(given.out, runs, command)


def run_variant(example: Example, variant: str, iterations: Sequence[str]) -> Run:
    """Train, render, filter and score one variant, on the shared prior or on its own."""
    upstream = setting.prepare(example)
    experiment = setting.LOGS / "ablation" / example.name / variant
    setting.forget_where_code_changed(experiment, setting.ALL_CODE)
    own = variant in PRIORS
    setting.share_upstream(upstream, experiment, setting.BEFORE_PRIORS if own else setting.UPSTREAM)
    flags = [*example.flags(experiment), *iterations, *(PRIORS[variant] if own else VARIANTS[variant])]
    return Run(example, variant, read_scores(setting.run_product(flags, start="stereo" if own else "nerf")))


def read_scores(experiment: Path) -> dict[str, float]:
    """Return the scores of `COLUMNS` from a finished experiment, and the prior's abs_rel."""
    reason = skipped(experiment / "nerf")
    if reason:
        raise InputError(
            f"{experiment} has no field to score", found=reason, expected="a field", do="see its run.log"
        )
    metrics = read_json(experiment / "evaluation" / "metrics.json")
    return {
        "abs_rel": both_eyes(metrics, "depth/nerf/test", "tissue/raw/abs_rel"),
        "coverage": both_eyes(metrics, "depth/nerf/test", "tissue/raw/coverage"),
        "psnr_tissue": both_eyes(metrics, "rgb/test", "tissue/psnr"),
        "psnr_no_highlight": both_eyes(metrics, "rgb/test", "tissue_no_highlight/psnr"),
        "seconds": float(read_stamp(experiment / "nerf")["seconds"]),
        "prior_abs_rel": both_eyes(metrics, "depth/prior/test", "tissue/raw/abs_rel"),
    }


def both_eyes(metrics: Mapping[str, Any], before: str, after: str) -> float:
    """Return the mean over the eyes of one number of metrics.json; NaN where an eye has none."""
    values = []
    for side in ("left", "right"):
        inner: Any = metrics
        for word in (*before.split("/"), side, *after.split("/")):
            inner = inner.get(word, {})
        values.append(inner if isinstance(inner, float | int) else float("nan"))
    return float(np.mean(values))


def write_tables(out: Path, runs: Sequence[Run], command: str) -> None:
    """Write `ablation.md`, a table a rig, and `ablation.csv`, a line a run."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ["# Ablation", "", f"- `{command}`", f"- {setting.machine()}", f"- {NOTES}", ""]
    for rig in dict.fromkeys(run.example.rig for run in runs):
        mine = [run for run in runs if run.example.rig == rig]
        example = mine[0].example
        lines += [f"## {rig} rig, {example.frames} stereo frames of {example.width}×{example.height} px", ""]
        lines += [*setting.markdown_rows(table(mine)), ""]
    (out / "ablation.md").write_text("\n".join(lines), encoding="utf-8")
    with open(out / "ablation.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rig", "seed", "variant", *runs[0].scores])
        for run in runs:
            numbers = (f"{value:.6g}" for value in run.scores.values())
            writer.writerow([run.example.rig, run.example.seed, run.variant, *numbers])


def table(runs: Sequence[Run]) -> list[list[str]]:
    """Return head and rows, one a variant, of the runs on one rig."""
    head = ["variant", "seeds"]
    for title, _, better in COLUMNS.values():
        head += [title, "Δ"] if better else [title]
    rows = [[*head, "full better"]]
    full = {run.example.seed: run.scores for run in runs if run.variant == "full"}
    for variant in dict.fromkeys(run.variant for run in runs):
        mine = [run for run in runs if run.variant == variant]
        rows.append(_row(variant, mine, full))
    return rows


def _row(variant: str, mine: Sequence[Run], full: Mapping[int, Mapping[str, float]]) -> list[str]:
    cells, wins = [variant, str(len(mine))], []
    for key, (_, pattern, better) in COLUMNS.items():
        cells.append(spread([run.scores[key] for run in mine], pattern))
        if better:
            differences = paired(mine, full, key)
            cells.append("" if variant == "full" else spread(differences, "+" + pattern))
            wins.append(f"{sum(better * difference < 0 for difference in differences)}/{len(differences)}")
    return [*cells, "" if variant == "full" else " ".join(wins)]


def paired(mine: Sequence[Run], full: Mapping[int, Mapping[str, float]], key: str) -> list[float]:
    """Return the differences to `full` of one score, seed by seed."""
    return [run.scores[key] - full[run.example.seed][key] for run in mine if run.example.seed in full]


def spread(values: Sequence[float], pattern: str) -> str:
    """Return `mean ± standard deviation` (n - 1) of a sample, one value alone as it is, – for unknown."""
    if not values or not np.isfinite(values).all():
        return "–"
    mean = format(float(np.mean(values)), pattern)
    return f"{mean} ± {np.std(values, ddof=1):{pattern.lstrip('+')}}" if len(values) > 1 else mean


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
