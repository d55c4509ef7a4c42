"""The ablation of the mission: without guidance by masks, filter of matches or refinement; prior, field, filter.

`python benchmarks/paper.py` runs it on three phantoms; `--configs configs/mine.txt … --seeds 0 1 2` on scenes of
one's own, with as many seeds of training. It writes `benchmarks/results/paper.md`, `.tex` and `.csv`. Flags of
`run.py` that are not listed by `--help` here reach every run; those of a sweep (`--ray`, `--sweep_jobs`) work as
they do there.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import run as program
from benchmarks import setting
from sweeps.results import Result
from sweeps.scenes import Scene, read_scenes, without_sweep
from sweeps.settings import Setting
from sweeps.sweep import Sweep
from utils.errors import InputError
from utils.folder_lock import only_one
from utils.latex import table_row
from utils.options import parse_options
from utils.reference_flags import RETIRED

EYES = {"left only": ("train_binocular", "false"), "binocular": ("train_binocular", "true")}
VARIANTS: dict[str, Setting] = {
    "full": (),
    "w/o mask": (("mask_guide_sample_rate", "0"),),
    "w/o filter": (("match_max_dy", "100000"), ("match_min_confidence", "0")),
    "w/o refinement": (("no_depth_refine", "true"),),
}
METHODS = {"prior": "prior", "nerf": "field", "filter": "filter"}  # name in metrics.json -> row
DEPTH = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
COLOUR = ("psnr", "ssim", "lpips")
DIGITS = {"psnr": ".2f", "ssim": ".4f", "lpips": ".4f", "rmse": ".3f"}
NOTES = (
    "Depth of held-out frames, left eye, tissue, raw in mm (one median scale a run where nothing is metric); "
    "nothing trimmed or clamped. PSNR, SSIM and LPIPS are those of the run's renders, same frames and region.",
    "The rows `w/o …` are the filter's depth of a run without that part: mask is guidance of rays by importance "
    "(`--mask_guide_sample_rate 0`), filter is the epipolar and confidence filter of matches "
    "(`--match_max_dy 100000 --match_min_confidence 0`; the row `field` is what comes out without the filter of "
    "depth), refinement is `--no_depth_refine`.",
    "Left only trains on left images alone; its stereo prior still comes from both.",
)


@dataclass(frozen=True)
class Row:
    """One line of the table: its scores by scene and seed, in the order of the runs."""

    eyes: str
    name: str
    scores: Sequence[Mapping[str, float]]


def main(argv: Sequence[str]) -> int:
    """Bring all runs up to date and write the tables; return the exit status."""
    given, extra = _parser().parse_known_args(argv)
    try:
        options = parse_options(program.SECTIONS, RETIRED, extra)[0]["sweep"]
        scenes, seeds = _scenes(given, extra, options)
        settings = [
            (eye, *changed, *(() if seed is None else (("seed", str(seed)),)))
            for eye in EYES.values()
            for changed in VARIANTS.values()
            for seed in seeds
        ]
        command = setting.command_line("paper.py", argv)
        folder = setting.LOGS / given.name
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(folder, wait=False):  # another ablation may be at work there
            for former in folder.glob("*/*/"):
                setting.forget_where_code_changed(former, setting.ALL_CODE)
        sweep = Sweep(folder, scenes, settings, program.pipeline(), command)
        results = sweep.work(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = table(results)
    write(rows, results, given, command)
    print((given.out / f"{given.name}.md").read_text())
    return 0 if all(result.state == "done" for result in results) else 1


def _scenes(given: argparse.Namespace, extra: Sequence[str], options: Any) -> tuple[list[Scene], list[int | None]]:
    """Return the scenes, and the seeds of every setting: a phantom's own seed is its training's too."""
    pipeline = program.pipeline()
    if options.configs:
        return read_scenes(without_sweep(extra), options, pipeline), list(given.seeds)
    scenes = []
    for example in setting.examples_of([given.rig], given, without_sweep(extra)):
        words = [word for word in example.flags(example.upstream) if word != "--train_binocular"]
        pipeline.prepare(pipeline.parse(words))
        scenes.append(Scene(example.name, tuple(words), example.upstream.parent))
    return scenes, [None]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rig", default="parallel", choices=("parallel", "verged"), help="of the phantoms")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of phantoms or, with --configs, runs"
    )
    parser.add_argument("--name", default="paper", help="of the tables, and of the sweep's folder")
    setting.add_example_flags(parser)
    return parser


def table(results: Sequence[Result]) -> list[Row]:
    """Return the rows: prior, field and filter of the whole pipeline, then the filter's of every part left out."""
    rows = []
    for eyes, eye in EYES.items():
        for variant, changed in VARIANTS.items():
            mine = [result for result in results if _is(result.run.setting, (eye, *changed))]
            if variant == "full":
                rows += [Row(eyes, METHODS[name], [scores(one, name) for one in mine]) for name in METHODS]
            else:
                rows.append(Row(eyes, variant, [scores(one, "filter") for one in mine]))
    return rows


def _is(found: Setting, wanted: Setting) -> bool:
    return tuple(pair for pair in found if pair[0] != "seed") == wanted


def scores(result: Result, method: str) -> dict[str, float]:
    """Return the scores of one run's method on held-out left tissue; what was not computed is left out."""
    metrics = result.metrics
    alignment = "raw" if metrics.get("metric") else "median_scaled"
    depth = _at(metrics, "depth", method, "test", "left", "tissue", alignment)
    colour = _at(metrics, "rgb", "test", "left", "tissue") if method != "prior" else {}
    return {
        key: float(block[key])
        for block, keys in ((depth, DEPTH), (colour, COLOUR))
        for key in keys
        if key in block
    }


def _at(metrics: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    inner: Mapping[str, Any] = metrics
    for word in path:
        inner = inner.get(word, {})
    return inner


def mean_and_spread(row: Row, key: str) -> tuple[float, float | None] | None:
    """Return the mean of one score over runs and its standard deviation (n − 1), None for one run or for none."""
    values = [one[key] for one in row.scores if key in one]
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def cell(row: Row, key: str, *, spread: bool) -> str:
    """Return one score for a table, – where there is none."""
    found = mean_and_spread(row, key)
    if found is None:
        return "–"
    digits = DIGITS.get(key, ".4f")
    mean, deviation = found
    return f"{mean:{digits}} ± {deviation:{digits}}" if spread and deviation is not None else f"{mean:{digits}}"


def difference(row: Row, rows: Sequence[Row]) -> str:
    """Return the paired difference of abs_rel to the full filter of the same eyes, and how often it is worse."""
    full = next(one for one in rows if one.eyes == row.eyes and one.name == "filter")
    pairs = zip(row.scores, full.scores, strict=True)
    changes = [
        mine["abs_rel"] - whole["abs_rel"] for mine, whole in pairs if "abs_rel" in mine and "abs_rel" in whole
    ]
    if row is full or not changes:
        return ""
    deviation = f" ± {statistics.stdev(changes):.5f}" if len(changes) > 1 else ""
    return f"{statistics.fmean(changes):+.5f}{deviation}, worse on {sum(c > 0 for c in changes)} of {len(changes)}"


def write(rows: Sequence[Row], results: Sequence[Result], given: argparse.Namespace, command: str) -> None:
    """Write Markdown, LaTeX in the mission's format, and a line a run, row and score."""
    given.out.mkdir(parents=True, exist_ok=True)
    keys = [key for key in (*DEPTH, *COLOUR) if any(mean_and_spread(row, key) for row in rows)]
    done = sum(result.state == "done" for result in results)
    lines = ["# Ablation in the mission's format", "", f"- `{command}`", f"- {setting.machine()}"]
    lines += [f"- {done} of {len(results)} runs done: {', '.join(dict.fromkeys(r.run.scene for r in results))}"]
    lines += [*(f"- {note}" for note in NOTES), ""]
    heads = ["eyes", "", *keys, "abs_rel − that of filter, paired"]
    body = [
        [row.eyes, row.name, *(cell(row, key, spread=True) for key in keys), difference(row, rows)] for row in rows
    ]
    lines += [*setting.markdown_rows([heads, *body]), ""]
    (given.out / f"{given.name}.md").write_text("\n".join(lines), encoding="utf-8")
    tex = [f"% {command}", f"% {' & '.join(('eyes', 'row', *keys))}"]
    tex += [table_row([row.eyes, row.name, *(cell(row, key, spread=False) for key in keys)]) for row in rows]
    (given.out / f"{given.name}.tex").write_text("\n".join(tex) + "\n", encoding="utf-8")
    with open(given.out / f"{given.name}.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["eyes", "row", "run", *keys])
        for row in rows:
            for number, one in enumerate(row.scores):
                writer.writerow([row.eyes, row.name, number, *(f"{one[k]:.6g}" if k in one else "" for k in keys)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
