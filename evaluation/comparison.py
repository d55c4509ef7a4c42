"""A comparison as a whole, and as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from evaluation.bootstrap import FEWEST
from evaluation.compared_run import Place
from evaluation.latex import booktabs
from evaluation.paired import RISING, Difference
from utils.artifacts import write_json

_PATTERNS = {
    "abs_rel": ".5f", "sq_rel": ".4g", "rmse": ".4f", "rmse_log": ".5f", "coverage": ".3%",
    "psnr": ".3f", "a1": ".5f", "a2": ".5f", "a3": ".5f", "ssim": ".5f", "lpips": ".5f",
}  # fmt: skip
_UNITS = {"sq_rel": " (mm)", "rmse": " (mm)", "psnr": " (dB)"}
_HEADS = ("method", "score", "frames", "first", "second", "difference", "95 % interval", "better in", "verdict")


@dataclass(frozen=True, eq=False)
class Compared:
    """What was found between a first run (or set of runs) and a second; `notes` say what was left out and why."""

    first: str
    second: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def shown(self) -> list[Difference]:
        """What a table shows: methods that are the same in every score and frame are named in a sentence."""
        return [one for one in self.differences if one.place not in self._same]

    @property
    def said(self) -> list[str]:
        """The notes, and which methods are the same."""
        same = ", ".join(place[0] for place in self._same)
        return [*self.notes, *([f"the same in every frame and score: {same}"] if same else [])]

    @property
    def _same(self) -> list[Place]:
        changed = {one.place for one in self.differences if one.changed or one.lost}
        return [place for place in dict.fromkeys(one.place for one in self.differences) if place not in changed]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything of one command: what was compared, on which frames; `frames` says so in words."""

    frames: str
    compared: tuple[Compared, ...]


def markdown(comparison: Comparison) -> str:
    """Return the tables and notes as Markdown."""
    lines = ["# Comparison", "", f"{comparison.frames}.", ""]
    for one in comparison.compared:
        lines += [f"## {one.second} − {one.first}", ""]
        if one.shown:
            lines += [f"| {' | '.join(_heads(one))} |", "|" + "---|" * 2 + "---:|" * 6 + "---|"]
            lines += [*(f"| {' | '.join(_cells(one, difference))} |" for difference in one.shown), ""]
        lines += [*(f"- {note}." for note in one.said)] + ([""] if one.said else [])
    return "\n".join([*lines, *(f"- {line}" for line in remarks(comparison))]) + "\n"


def latex(comparison: Comparison) -> str:
    r"""Return the tables for LaTeX (`\usepackage{booktabs}`); notes are comments above them."""
    lines = [r"% \usepackage{booktabs}", *(f"% {line}" for line in remarks(comparison))]
    for one in comparison.compared:
        lines += [f"% {note}." for note in one.said]
        rows = [_cells(one, difference) for difference in one.shown]
        caption = f"{one.second} − {one.first}: {comparison.frames}"
        lines += booktabs(caption, _heads(one), rows, "ll" + "r" * 6 + "l") if rows else []
    return "\n".join(lines) + "\n"


def remarks(comparison: Comparison) -> list[str]:
    """Return the sentences that belong under every table."""
    shown = [one for pair in comparison.compared for one in pair.shown if one.changed and one.interval]
    lines = [
        "Differences are second minus first over the frames that both have; ↓ less is better, ↑ more is better. "
        "Both eyes of a frame stay together."
    ]
    if shown:
        lines.append(
            f"95 % intervals are over frames of this sequence (block bootstrap{_over_runs(comparison)}), not "
            f"other scenes. {len(shown)} are shown: where nothing differs, about one in twenty of them excludes "
            "0, and scores of one method go together. Say beforehand which one counts."
        )
    if any(one.winner in ("first", "second") for one in shown) and not _over_runs(comparison):
        lines.append(
            "Two trainings are compared, not two settings: the same options with another seed can differ as "
            "clearly. For settings give several seeds: --a RUN… --b RUN…"
        )
    return lines


def _over_runs(comparison: Comparison) -> str:
    several = any(len(one.runs) > 1 for pair in comparison.compared for one in pair.differences)
    return ", and the spread of the seeds" if several else ""


def verdict(compared: Compared, difference: Difference) -> str:
    """Return in words what a difference tells."""
    if difference.winner == "unknown":
        return f"fewer than {FEWEST} frames: no interval"
    if difference.winner == "none":
        return "no difference seen" if difference.changed else "the same"
    return f"{compared.second if difference.winner == 'second' else compared.first} better (interval excludes 0)"


def write(comparison: Comparison, folder: Path, picture: str) -> None:
    """Write compare.md, .tex, .csv, .json, .svg (the picture), and compare_frames.csv, a row a frame and score."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "compare.md", lambda file: file.write(markdown(comparison)))
    _write(folder / "compare.tex", lambda file: file.write(latex(comparison)))
    _write(folder / "compare.csv", lambda file: csv.writer(file).writerows(_table(comparison)))
    _write(folder / "compare_frames.csv", lambda file: csv.writer(file).writerows(_frames(comparison)))
    _write(folder / "compare.svg", lambda file: file.write(picture))
    write_json(folder / "compare.json", _record(comparison))


def _write(path: Path, fill: Callable[[TextIO], Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        fill(file)
    os.replace(partial, path)


def _heads(compared: Compared) -> list[str]:
    names = {"first": compared.first, "second": compared.second, "better in": f"{compared.second} better in"}
    return [names.get(head, head) for head in _HEADS]


def _cells(compared: Compared, one: Difference) -> list[str]:
    pattern = _PATTERNS[one.metric]
    ends = one.interval
    frames = len(one.frames)
    return [
        one.place[0],
        f"{one.metric}{_UNITS.get(one.metric, '')} {'↑' if one.metric in RISING else '↓'}",
        str(frames),
        *(format(mean, pattern) for mean in one.means),
        _signed(one.difference, pattern),
        f"[{_signed(ends[0], pattern)}, {_signed(ends[1], pattern)}]" if ends else "–",
        f"{one.better} of {frames}",
        verdict(compared, one),
    ]


def _signed(value: float, pattern: str) -> str:
    return format(value, f"+{pattern}").replace("-", "−")


def _table(comparison: Comparison) -> Iterator[list[object]]:
    yield [
        *("first", "second", "method", "region", "alignment", "score", "n_frames", "mean_first", "mean_second"),
        *("difference", "low", "high", "frames_better", "frames_worse", "views_lost", "verdict"),
    ]
    for pair in comparison.compared:
        for one in pair.differences:
            low, high = one.interval or ("", "")
            yield [
                *(pair.first, pair.second, *one.place, one.metric, len(one.frames), *map(_exact, one.means)),
                *(_exact(one.difference), _exact(low), _exact(high), one.better, one.worse, len(one.lost)),
                verdict(pair, one),
            ]


def _exact(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"


def _frames(comparison: Comparison) -> Iterator[list[object]]:
    yield [
        "first",
        "second",
        "frame",
        "method",
        "region",
        "alignment",
        "score",
        "of_first",
        "of_second",
        "difference",
    ]
    for pair in comparison.compared:
        for one in pair.differences:
            for name, first, second in zip(one.frames, one.first, one.second, strict=True):
                numbers = (_exact(float(value)) for value in (first, second, second - first))
                yield [pair.first, pair.second, name, *one.place, one.metric, *numbers]


def _record(comparison: Comparison) -> dict[str, Any]:
    return {
        "frames": comparison.frames,
        "compared": [
            {
                "first": pair.first,
                "second": pair.second,
                "differences": [_difference(pair, one) for one in pair.differences],
                "notes": list(pair.notes),
            }
            for pair in comparison.compared
        ],
        "remarks": remarks(comparison),
    }


def _difference(pair: Compared, one: Difference) -> dict[str, Any]:
    method, region, alignment = one.place
    record: dict[str, Any] = {"method": method, "region": region}
    record |= {"alignment": alignment} if alignment else {}
    record |= {
        "score": one.metric,
        "more_is_better": one.metric in RISING,
        "n_frames": len(one.frames),
        "mean_first": one.means[0],
        "mean_second": one.means[1],
        "difference": one.difference,
    }
    record |= {"ci95": list(one.interval)} if one.interval else {}
    record |= {"difference_of_runs": list(one.runs)} if len(one.runs) > 1 else {}
    return record | {
        "frames_better": one.better,
        "frames_worse": one.worse,
        "verdict": verdict(pair, one),
        "views_lost": [f"{side}_{name}" for side, name in one.lost],
    }
