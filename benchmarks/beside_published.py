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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.published import MOVING, NOT_IMPLEMENTED, TITLES, Number, Own, beside, metrics_of, read_all, table
from benchmarks.published_data import DATA, Data, Run, read_run
from utils.artifacts import damaged
from utils.commands import answer
from utils.errors import InputError

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
PER_FRAME = (
    "Depth of each stereo pair by itself, for which nothing needs to stand still, against the depth that comes "
    "with the data. Where that is of stereo matching too, it is no independent truth; and no published number is "
    "scored so: nothing stands beside these."
)


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
    numbers = [number for number in read_all() if number.dataset == data.dataset]
    here = [number for number in numbers if data.clip in ("", number.clip)]
    lines, reasons = [f"# {dataset}, published and ours", "", HEAD, ""], []
    if any(run.undistorted for run in runs):
        lines += ["Our images were undistorted first; theirs may not have been.", ""]
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
    blocks, reasons = {}, []
    for run in runs:
        block = scores_of(run, protocol)
        if isinstance(block, str):
            reasons.append(f"`{protocol}`, {run.name}: {block}")
        else:
            blocks[run.name] = block
    if data.scored is not None and blocks:
        blocks, why = together(blocks, data.scored)
        reasons += [f"`{protocol}`: {why}"] if why else []
    own = []
    for name, block in blocks.items():
        values, missing = _values(block, part)
        own.append(Own(data.clip, f"ours: {name}", values, f"measured, {block['n_frames']:g} frames"))
        reasons += [f"`{protocol}`, {name}: {reason}." for reason in missing]
    return own, reasons


def scores_of(run: Run, protocol: str) -> Mapping[str, float] | str:
    """Return a run's scores under a protocol, or in words why it has none. Raises InputError for damaged ones."""
    refused = run.metrics.get("protocols_refused", {}).get(protocol)
    if refused:
        return f"refused: {refused}"
    block: Any = run.metrics.get("protocols", {}).get(protocol)
    if block is None:
        return "no scores under it; `python run.py --config … --from evaluation` scores a run again."
    scores = {}
    if isinstance(block, dict):
        scores = {name: value for name, value in block.items() if isinstance(value, int | float)}
    if not scores.get("n_frames", 0) > 0 or not all(math.isfinite(value) for value in scores.values()):
        raise damaged(run.folder / "evaluation" / "metrics.json", f"{protocol}: {block}")
    return scores


def together(blocks: Mapping[str, Mapping[str, float]], frames: int) -> tuple[dict[str, Mapping[str, float]], str]:
    """Return the mean over the frames of all runs; nothing, and why, unless they are `frames` frames."""
    counts = [block["n_frames"] for block in blocks.values()]
    if sum(counts) != frames:
        return {}, f"the runs given have {sum(counts):g} of its frames, not all {frames}."
    shared = set.intersection(*(set(block) for block in blocks.values())) - {"n_frames"}
    weighted = list(zip(blocks.values(), counts, strict=True))
    means = {name: sum(block[name] * count for block, count in weighted) / frames for name in shared}
    return {f"{len(blocks)} runs together": {**means, "n_frames": frames}}, ""


def _values(block: Mapping[str, float], part: Sequence[Number]) -> tuple[dict[str, str], list[str]]:
    """Return our figures for the metrics of a table, and in words which of these have none."""
    values, missing = {}, []
    for metric in metrics_of(part):
        units = {number.unit for number in part if number.metric == metric}
        title = TITLES.get(metric, metric)
        if metric not in OURS:
            missing.append(f"{title} is not a score of an evaluation, and belongs to a machine")
        elif metric not in block:
            missing.append(f"{title} is absent from the run")
        elif units != {OURS[metric][0]}:
            missing.append(f"{title} is published in units that the source does not state")
        else:
            values[metric] = f"{block[metric]:.{OURS[metric][1]}f}"
    return values, missing


def unmatched(runs: Sequence[Run], data: Data, numbers: Sequence[Number]) -> Iterator[str]:
    """Yield why the rest of the dataset's numbers and of our scores stand beside nothing."""
    published = {number.protocol for number in numbers if number.clip == data.clip}
    for name in dict.fromkeys(name for run in runs for name in run.metrics.get("protocols", {})):
        if name not in published:
            yield f"ours under `{name}`: nothing is published under it on this clip."
    others = Counter(number.clip for number in numbers if data.clip not in ("", number.clip))
    if others:
        listed = ", ".join(f"{clip} ({count})" for clip, count in others.items())
        yield f"published numbers on other clips of {data.dataset}: {listed}."


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
