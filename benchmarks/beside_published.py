"""Set the scores of your finished runs beside published ones, where protocol and data are the same.

`python benchmarks/beside_published.py logs/mine --dataset scared-d1k1` prints the published numbers of that clip
with ours below, and of everything else why no comparison is made. The numbers are those of `docs/published.md`.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.published import MOVING, NOT_IMPLEMENTED, TITLES, Number, Own, beside, metrics_of, read_all, table
from benchmarks.published_data import DATA, Data, Run, read_run
from utils.artifacts import damaged
from utils.commands import answer
from utils.errors import InputError, NotApplicable

# Metric of `metrics.json` -> its unit, digits behind the point.
OURS = {
    "psnr": ("dB", 2), "ssim": ("1", 3), "lpips": ("1", 3), "abs_rel": ("1", 4), "sq_rel": ("mm", 3),
    "rmse": ("mm", 3), "rmse_log": ("1", 4), "a1": ("1", 4),
}  # fmt: skip
HEAD = (
    "Published numbers are copied from the sources named, ours are from `metrics.json` of the runs named. Only "
    "lines of one table share data and protocol, and even these differ in who ran them, on what machine, and with "
    "what depth given: a comparison across sources is no result."
)
STATIC = "tissue moves in this clip and our field is static: its renders cannot show what moves"
UNDISTORTED = (
    "Our images were undistorted first. Published codes may have used others, rectified ones for SCARED: the same "
    "views, but not the same pixels."
)
PER_FRAME = (
    "Depth of each stereo pair by itself, for which nothing needs to stand still, against the depth that comes "
    "with the data. Where that is of stereo matching too, it is no independent truth; and no published number is "
    "scored so: nothing stands beside these."
)


@dataclass(frozen=True)
class Line:
    """Scores of ours that become one line: the run, whose depth (empty: colour), why metrics are left out."""

    run: str
    method: str
    numbers: Mapping[str, float]
    n_frames: int
    left_out: Mapping[str, str]


def compare(dataset: str, folders: Sequence[Path]) -> str:
    """Return published | ours and the reasons where there is no ours, as Markdown.

    Args:
        dataset: one of `DATA`.
        folders: finished runs, each of which becomes a line; runs that a list goes over are scored together.

    Raises:
        InputError: a run is not finished, damaged, given twice, or not on this data.
    """
    data = DATA[dataset]
    if len({folder.resolve() for folder in folders}) != len(folders):
        listed = ", ".join(str(folder) for folder in folders)
        raise InputError("a run is given twice", found=listed, expected="each run once", do="drop one")
    runs = [read_run(folder, data) for folder in folders]
    if data.scored is not None and len({run.source for run in runs}) != len(runs):
        raise InputError(
            "two runs are of one recording",
            found=", ".join(f"{run.name} of {run.source}" for run in runs),
            expected="a run of each recording that the list goes over",
            do="drop one, or its frames would count twice",
        )
    numbers = [number for number in read_all() if number.dataset == data.dataset]
    here = [number for number in numbers if data.clip in ("", number.clip)]
    lines, reasons = [f"# {dataset}, published and ours", "", HEAD, ""], []
    if any(run.undistorted for run in runs):
        lines += [UNDISTORTED, ""]
    for protocol in dict.fromkeys(number.protocol for number in here):
        part = [number for number in here if number.protocol == protocol]
        own, why = scored(runs, data, part)
        if own:
            lines += [f"## Protocol `{protocol}`", "", *beside(part, own), ""]
        reasons += why
    reasons += list(unmatched(runs, data, numbers))
    lines += ["## Not compared", "", *(f"- {reason}" for reason in reasons), ""]
    if data.dataset in MOVING:
        lines += per_frame(runs)
    return "\n".join(lines)


def scored(runs: Sequence[Run], data: Data, part: Sequence[Number]) -> tuple[list[Own], list[str]]:
    """Return our lines below the published ones of one clip and protocol, and in words what is not compared."""
    protocol = part[0].protocol
    if not part[0].comparable:
        methods = ", ".join(dict.fromkeys(number.method for number in part))
        return [], [f"{methods}: protocol not implemented here ({protocol.removeprefix(NOT_IMPLEMENTED)})."]
    if data.dataset in MOVING:
        return [], [f"`{protocol}`: {STATIC}."]
    lines: list[Line] = []
    reasons = []
    for run in runs:
        try:
            lines += lines_of(run, protocol)
        except NotApplicable as reason:
            reasons.append(f"`{protocol}`, {run.name}: {reason}.")
            continue
        depth = run.metrics["protocols"][protocol].get("depth", {})
        holes = [name for name, values in depth.items() if not _without_holes(values)]
        if holes:
            reasons.append(f"`{protocol}`, {run.name}: depth of {', '.join(holes)} has holes, not comparable.")
    if data.scored is not None and lines:
        lines, why = together(lines, data.scored)
        reasons += [f"`{protocol}`: {words}." for words in why]
    own = []
    for line in lines:
        values = _values(line, part)
        if values:
            name = f"ours: {line.run}" + (f", {line.method}" if line.method else "")
            own.append(Own(data.clip, name, values, f"measured, {line.n_frames} frames"))
    if lines:
        reasons += [f"`{protocol}`: {words}." for words in _missing(lines, part)]
    return own, reasons


def lines_of(run: Run, protocol: str) -> list[Line]:
    """Return a run's scores under a protocol: a line for colour, and one for each method's depth.

    Raises:
        NotApplicable: it has none that stand beside published ones; the message says why.
        InputError: they are damaged.
    """
    refused = run.metrics.get("protocols_refused", {}).get(protocol)
    if refused:
        raise NotApplicable(f"refused, {refused}")
    block = run.metrics.get("protocols", {}).get(protocol)
    if block is None:
        raise NotApplicable("no scores under it; `python run.py --config … --from evaluation` scores a run again")
    try:
        if not block.get("comparable", True):
            raise NotApplicable("not comparable, " + "; ".join(block.get("doubts", ["its scores say so"])))
        left_out, n_frames = dict(block.get("left_out", {})), int(block["n_frames"])
        whole = {name: values for name, values in block.get("depth", {}).items() if _without_holes(values)}
        parts = {"": block, **whole}
        lines = [
            Line(run.name, method, _numbers(values), int(values.get("n_frames", n_frames)), left_out)
            for method, values in parts.items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(run.folder / "evaluation" / "metrics.json", error) from error
    return [line for line in lines if line.numbers]


def _without_holes(values: Mapping[str, Any]) -> bool:
    return bool(values.get("comparable", True))


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores among some values; raise ValueError where one is no finite number."""
    numbers = {metric: float(values[metric]) for metric in OURS if metric in values}
    if not all(math.isfinite(number) for number in numbers.values()):
        raise ValueError(f"{numbers}")
    return numbers


def together(lines: Sequence[Line], frames: int) -> tuple[list[Line], list[str]]:
    """Return a line a method, the mean over the frames of all runs, and why a method has none."""
    means, reasons = [], []
    for method in dict.fromkeys(line.method for line in lines):
        same = [line for line in lines if line.method == method]
        counted = sum(line.n_frames for line in same)
        if counted != frames:
            label = f"{method}, " if method else ""
            reasons.append(f"{label}the runs given scored {counted} of its {frames} frames")
            continue
        shared = [name for name in same[0].numbers if all(name in line.numbers for line in same)]
        mean = {name: sum(line.numbers[name] * line.n_frames for line in same) / frames for name in shared}
        means.append(Line(f"{len(same)} runs together", method, mean, frames, {}))
    return means, reasons


def _values(line: Line, part: Sequence[Number]) -> dict[str, str]:
    """Return our figures for the metrics of a table, where the published ones state the same unit."""
    units = {metric: {number.unit for number in part if number.metric == metric} for metric in metrics_of(part)}
    return {
        metric: f"{line.numbers[metric]:.{OURS[metric][1]}f}"
        for metric in units
        if metric in line.numbers and units[metric] == {OURS[metric][0]}
    }


def _missing(lines: Sequence[Line], part: Sequence[Number]) -> Iterator[str]:
    """Yield in words why metrics of a table have no figure of ours."""
    for metric in metrics_of(part):
        title = TITLES.get(metric, metric)
        if metric not in OURS:
            yield f"{title} is not a score of an evaluation, and belongs to a machine"
        elif not any(metric in line.numbers for line in lines):
            why = dict.fromkeys(line.left_out[metric] for line in lines if metric in line.left_out)
            yield f"{title} is absent" + (f", {'; '.join(why)}" if why else " from the runs")
        elif any(number.unit != OURS[metric][0] for number in part if number.metric == metric):
            yield f"{title} is published without its unit"


def unmatched(runs: Sequence[Run], data: Data, numbers: Sequence[Number]) -> Iterator[str]:
    """Yield why the rest of the dataset's numbers and of our scores stand beside nothing."""
    published = {number.protocol for number in numbers if number.clip == data.clip}
    for name in dict.fromkeys(name for run in runs for name in run.metrics.get("protocols", {})):
        if name not in published:
            yield f"ours under `{name}`: nothing is published under it on this clip."
    others = Counter(number.clip for number in numbers if data.clip not in ("", number.clip))
    if others:
        listed = ", ".join(f"{clip} ({count} numbers)" for clip, count in others.items())
        yield f"published on other parts of {data.dataset}: {listed}."


def per_frame(runs: Sequence[Run]) -> list[str]:
    """Return the depth scores of the stereo sources of runs on moving tissue, left eye, tissue."""
    head = ["run", "source", "split", "AbsRel", "RMSE", "AbsRel, one median scale", "coverage", "frames"]
    rows = []
    for run in runs:
        unit = "mm" if run.metrics.get("metric") else "arbitrary units"
        for source, splits in run.metrics.get("depth_sources", {}).items():
            for split, eyes in splits.items():
                tissue = eyes.get("left", {}).get("tissue", {})
                if raw := tissue.get("raw"):
                    scaled = tissue.get("median_scaled", {}).get("abs_rel")
                    words = [
                        f"{raw['abs_rel']:.4f}",
                        f"{raw['rmse']:.3f} {unit}",
                        f"{scaled:.4f}" if scaled else "",
                    ]
                    rows.append([run.name, source, split, *words, f"{raw['coverage']:.1%}", str(raw["n_frames"])])
    lines = ["## What can be said of a clip in which tissue moves", "", PER_FRAME, ""]
    return [*lines, *(table(head, rows) if rows else ["No run here has scores of stereo depth."]), ""]


def main(argv: Sequence[str]) -> int:
    """Print the comparison, and write it where asked; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="finished runs, logs/<expname>")
    parser.add_argument("--dataset", required=True, choices=list(DATA), help="the public data that they are on")
    parser.add_argument("--out", type=Path, help="file to write the Markdown to as well")
    given = parser.parse_args(argv)

    def work() -> str:
        text = compare(given.dataset, given.runs)
        if given.out:
            partial = given.out.with_name(given.out.name + ".partial")
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, given.out)
        return text

    return answer(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
