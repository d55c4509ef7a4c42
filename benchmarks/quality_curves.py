"""Curves of held-out quality over the time of a training: kept in files, summed up in tables, drawn."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from benchmarks.setting import Example, markdown_rows

GOALS_DB = (30.0, 32.0, 36.0)


@dataclass(frozen=True)
class Point:
    """Held-out scores after so many steps, and what these took; NaN: not known.

    `seconds` are those of steps and refinements, `refining_s` those of the refinements among them.
    """

    steps: int
    rays: int
    seconds: float
    refining_s: float
    psnr_tissue_db: float
    psnr_no_highlight_db: float
    abs_rel: float
    coverage: float


KEYS = tuple(field.name for field in fields(Point))


@dataclass(frozen=True)
class Run:
    """One variant's training on one phantom."""

    example: Example
    variant: str
    curve: Sequence[Point]

    @property
    def last(self) -> Point:
        """Return the last point of the curve."""
        return self.curve[-1]

    @property
    def best(self) -> Point:
        """Return the first point with the highest PSNR outside highlights."""
        return max(self.curve, key=lambda point: np.nan_to_num(point.psnr_no_highlight_db))

    @property
    def ms_a_step(self) -> float:
        """Return the milliseconds of a step, refinements not counted."""
        return 1000.0 * (self.last.seconds - self.last.refining_s) / self.last.steps

    @property
    def rays_per_second(self) -> float:
        """Return the rays trained on by second of training, refinements counted."""
        return self.last.rays / self.last.seconds

    def seconds_to(self, psnr_db: float) -> float:
        """Return the seconds to the first score outside highlights that is at least as good; inf for never."""
        reached = (point.seconds for point in self.curve if point.psnr_no_highlight_db >= psnr_db)
        return next(reached, float("inf"))


def _seconds_to(psnr_db: float) -> Callable[[Run], float]:
    return lambda run: run.seconds_to(psnr_db)


# Title of a column of the table -> its format, and what a run has in it.
COLUMNS: dict[str, tuple[str, Callable[[Run], float]]] = {
    "steps": (".0f", lambda run: run.last.steps),
    "training, s": (".0f", lambda run: run.last.seconds),
    "ms a step": (".1f", lambda run: run.ms_a_step),
    "rays a second": (",.0f", lambda run: run.rays_per_second),
    **{f"s to {goal:.0f} dB": (".1f", _seconds_to(goal)) for goal in GOALS_DB},
    "PSNR tissue, dB": (".2f", lambda run: run.last.psnr_tissue_db),
    "PSNR outside highlights, dB": (".2f", lambda run: run.last.psnr_no_highlight_db),
    "abs_rel": (".5f", lambda run: run.last.abs_rel),
    "coverage": (".1%", lambda run: run.last.coverage),
}


def save_curve(path: Path, curve: Sequence[Point]) -> None:
    """Write one finished curve; a crash leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(KEYS)
        writer.writerows(astuple(point) for point in curve)
    partial.replace(path)


def load_curve(path: Path) -> list[Point]:
    """Read what `save_curve` wrote."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [Point(int(row["steps"]), int(row["rays"]), *(float(row[key]) for key in KEYS[2:])) for row in rows]


def write_csv(path: Path, runs: Sequence[Run]) -> None:
    """Write every point of every curve."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rig", "seed", "variant", *KEYS])
        for run in runs:
            for point in run.curve:
                scores = (f"{score:.6g}" for score in astuple(point)[4:])
                done = (point.steps, point.rays, f"{point.seconds:.3f}", f"{point.refining_s:.3f}")
                writer.writerow([run.example.rig, run.example.seed, run.variant, *done, *scores])


def tables(runs: Sequence[Run], reference: str) -> list[str]:
    """Return the lines of a table a rig, and of one for every phantom on which `reference` was trained."""
    lines: list[str] = []
    for rig in dict.fromkeys(run.example.rig for run in runs):
        mine = [run for run in runs if run.example.rig == rig]
        example = mine[0].example
        lines += [f"## {rig} rig, {example.frames} stereo frames of {example.width}×{example.height} px", ""]
        lines += [*markdown_rows(_summary(mine)), ""]
    for slow in (run for run in runs if run.variant == reference):
        mine = [run for run in runs if run.example == slow.example and run is not slow]
        if mine:
            example = slow.example
            lines += [f"## Against `{reference}`: {example.rig} rig, seed {example.seed}", ""]
            lines += [*markdown_rows(_against(slow, mine)), ""]
    return lines


def _summary(runs: Sequence[Run]) -> list[list[str]]:
    rows = [["variant", "seeds", *COLUMNS]]
    for variant in dict.fromkeys(run.variant for run in runs):
        mine = [run for run in runs if run.variant == variant]
        cells = [mean_and_range([value(run) for run in mine], pattern) for pattern, value in COLUMNS.values()]
        rows.append([variant, str(len(mine)), *cells])
    return rows


def mean_and_range(values: Sequence[float], pattern: str) -> str:
    """Return `mean (least to most)`; infinite values are counted as never, unknown ones give –."""
    if np.isnan(values).any():
        return "–"
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return "never"
    text = format(float(np.mean(finite)), pattern)
    least, most = (format(value, pattern) for value in (min(finite), max(finite)))
    text += f" ({least} to {most})" if least != most else ""
    return text if len(finite) == len(values) else f"{text}, {len(finite)} of {len(values)}"


def _against(slow: Run, runs: Sequence[Run]) -> list[list[str]]:
    """Return head and rows, one a variant: what it does in the time of the slow one's best score."""
    best = slow.best
    goal = f"{best.psnr_no_highlight_db:.2f} dB"
    rows = [["variant", "rays a second", "times as many", f"s to {goal}", "times as fast"]]
    rows.append([slow.variant, f"{slow.rays_per_second:,.0f}", "1", f"{best.seconds:.1f}", "1"])
    for run in runs:
        seconds = run.seconds_to(best.psnr_no_highlight_db)
        reached = [f"{seconds:.1f}", f"{best.seconds / seconds:.1f}"] if np.isfinite(seconds) else ["never", "–"]
        more = f"{run.rays_per_second / slow.rays_per_second:.1f}"
        rows.append([run.variant, f"{run.rays_per_second:,.0f}", more, *reached])
    return rows


# What each row of the picture shows: from, to, their names, and whether the upright axis is logarithmic.
PANELS = (
    ("seconds", "psnr_no_highlight_db", "seconds of training", "held-out PSNR outside highlights, dB", False),
    ("seconds", "abs_rel", "seconds of training", "held-out abs_rel of depth", True),
    ("rays", "psnr_no_highlight_db", "rays seen", "held-out PSNR outside highlights, dB", False),
)


def draw(path: Path, runs: Sequence[Run]) -> None:
    """Draw, a column a rig, quality over seconds and over rays; a line a seed, a colour a variant."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rigs = list(dict.fromkeys(run.example.rig for run in runs))
    variants = list(dict.fromkeys(run.variant for run in runs))
    figure = Figure(figsize=(6.2 * len(rigs), 11.5), layout="constrained")
    grid = figure.subplots(len(PANELS), len(rigs), squeeze=False, sharey="row")
    for row, (over, shown, across, up, logarithmic) in zip(grid, PANELS, strict=True):
        for axes, rig in zip(row, rigs, strict=True):
            labelled = set[str]()
            for run in (one for one in runs if one.example.rig == rig):
                axes.plot(
                    [getattr(point, over) for point in run.curve],
                    [getattr(point, shown) for point in run.curve],
                    color=f"C{variants.index(run.variant)}",
                    marker=".",
                    linewidth=1.2,
                    alpha=0.8,
                    label=None if run.variant in labelled else run.variant,
                )
                labelled.add(run.variant)
            axes.set(xlabel=across, ylabel=up, xscale="log", title=f"{rig} rig")
            axes.set_yscale("log" if logarithmic else "linear")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.grid(alpha=0.3, which="both")
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
