"""Compare finished runs frame by frame, with intervals of the differences.

`python -m evaluation.compare RUN_A RUN_B [RUN_C …]` compares each run with the first;
`python -m evaluation.compare --a RUN… --b RUN…` two sets of runs of the same seeds, seed by seed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.comparable import SCALED, alignment_of, require_comparable
from evaluation.compared_run import ComparedRun, Seen, read_compared
from evaluation.comparison import Compared, Comparison, markdown, write
from evaluation.comparison_picture import strips
from evaluation.paired import Difference, compare_place, shared_places
from evaluation.right_eye import ALL, RENDERED
from evaluation.right_eye import BLOCK as RIGHT_EYE
from utils.commands import answer
from utils.errors import InputError

BOTH = "both"
REGIONS = ("tissue", "full", "tissue_no_highlight")


@dataclass(frozen=True)
class Wanted:
    """What to compare: `side` is left, right or both; `alignment` None is raw where all lengths are mm.

    `split` is test, train, or all: that of a right eye whose images trained nothing.
    """

    split: str = "test"
    side: str = BOTH
    region: str = "tissue"
    alignment: str | None = None
    allow_splits: bool = False


Pairs = Sequence[tuple[ComparedRun, ComparedRun]]


def compare_runs(runs: Sequence[ComparedRun], wanted: Wanted) -> Comparison:
    """Compare every run with the first. Raises InputError where two are not comparable, or share no frame."""
    first, *others = runs
    names = _distinct([run.root for run in runs])
    alignment = alignment_of(runs, wanted.alignment)
    compared = [
        _compare([(first, other)], (names[0], name), wanted, alignment)
        for other, name in zip(others, names[1:], strict=True)
    ]
    return Comparison(_in_words(wanted, alignment), tuple(compared))


def compare_sets(first: Sequence[ComparedRun], second: Sequence[ComparedRun], wanted: Wanted) -> Comparison:
    """Compare two sets of runs, seed by seed.

    Raises:
        InputError: other seeds in one set than in the other, a seed twice, or runs that are not comparable.
    """
    pairs = _by_seed(first, second)
    alignment = alignment_of([*first, *second], wanted.alignment)
    found = _compare(pairs, ("A", "B"), wanted, alignment)
    named = [
        f"{name} is {', '.join(run.name for run in runs)}"
        for name, runs in zip("AB", zip(*pairs, strict=True), strict=True)
    ]
    return Comparison(_in_words(wanted, alignment), (replace(found, notes=(*named, *found.notes)),))


def _by_seed(first: Sequence[ComparedRun], second: Sequence[ComparedRun]) -> list[tuple[ComparedRun, ComparedRun]]:
    seeds = [Counter(run.seed for run in runs) for runs in (first, second)]
    if seeds[0] != seeds[1] or len(seeds[0]) < len(first) or None in seeds[0] or len(first) < 2:
        shown = [", ".join(str(run.seed) for run in runs) for runs in (first, second)]
        raise InputError(
            "--a and --b are no runs of the same seeds",
            found=f"seeds {shown[0]} and {shown[1]}",
            expected="two different seeds or more, each once in --a and once in --b",
            do="make the missing runs with --seed; without seeds compare two runs: RUN_A RUN_B",
        )
    others = {run.seed: run for run in second}
    return [(run, others[run.seed]) for run in first]


def _compare(pairs: Pairs, names: tuple[str, str], wanted: Wanted, alignment: str) -> Compared:
    notes: list[str] = []
    runs = [run for pair in pairs for run in pair]
    for run in runs[1:]:
        notes += require_comparable(runs[0], run, allow_splits=wanted.allow_splits)
    sides = _sides(runs, wanted.side)
    if wanted.split == ALL:
        _require_unseen(runs, wanted.side)
    notes += _trained_on(runs, wanted.split, sides)
    if wanted.side == BOTH and len(sides) == 1:
        notes.append(f"the {sides[0]} eye alone: the other has no scores in every run")
    places = shared_places(runs, wanted.split, wanted.region, alignment)
    if wanted.split == ALL:
        places = [place for place in places if place[0] in RENDERED]
    found = [one for place in places for one in compare_place(pairs, wanted.split, sides, place)]
    if len({frozenset(run.lpips_files) for run in runs}) > 1 and any(one.metric == "lpips" for one in found):
        found = [one for one in found if one.metric != "lpips"]
        notes.append("lpips is left out: the runs took other weights for it")
    if not found:
        raise InputError(
            f"{names[0]} and {names[1]} have no score in common",
            found=f"no {wanted.split} frame with {wanted.region} scores of the {' or '.join(sides)} eye in both",
            expected="frames that both runs have scores of",
            do="choose another --split, --side, --region or --alignment",
        )
    notes += _lost(found) + _other_pixels(found) + _only_one(runs, wanted, alignment)
    return Compared(*names, tuple(found), tuple(notes))


def _require_unseen(runs: Sequence[ComparedRun], side: str) -> None:
    """Refuse training and held-out frames together, but for a right eye that no run has learned from."""
    seen = [run.name for run in runs if RIGHT_EYE not in run.metrics]
    if side != "right" or seen:
        raise InputError(
            "--split all is for a right eye that trained nothing",
            found=f"--side {side}" + (f"; {', '.join(seen)} trained on the right eye" if seen else ""),
            expected="--side right, and runs without --train_binocular",
            do="compare held-out frames: --split test",
        )


def _trained_on(runs: Sequence[ComparedRun], split: str, sides: Sequence[str]) -> list[str]:
    """Say what of the compared frames the runs have learned from."""
    held_out = [run.name for run in runs if RIGHT_EYE in run.metrics]
    unseen = list(sides) == ["right"] and len(held_out) == len(runs)
    fits = split == "train" and not unseen
    notes = ["train frames tell how well a field fits what it has seen"] if fits else []
    if "right" in sides and 0 < len(held_out) < len(runs):
        notes.append(f"{', '.join(held_out)} never trained on the right eye, the others did")
    return notes


def _sides(runs: Sequence[ComparedRun], side: str) -> list[str]:
    """Return the eyes to compare: the one asked for, or those that all runs have scores of."""
    if side != BOTH:
        return [side]
    scored = [
        {eye for places in run.scores.values() for views in places.values() for eye, _ in views} for run in runs
    ]
    return [eye for eye in ("left", "right") if all(eye in eyes for eyes in scored)] or ["left"]


def _lost(found: Sequence[Difference]) -> list[str]:
    """Say which views are missing from the pairs, since some runs alone have a score of them."""
    scores: dict[tuple[Seen, ...], list[str]] = {}
    for one in found:
        if one.lost:
            scores.setdefault(one.lost, []).append(f"{one.place[0]} {one.metric}")
    notes = []
    for views, names in scores.items():
        shown = ", ".join(f"{side} {name}" for side, name in views[:8])
        more = f" and {len(views) - 8} more" if len(views) > 8 else ""
        notes.append(f"{', '.join(names)}: without {len(views)} views that some runs alone have: {shown}{more}")
    return notes


def _other_pixels(found: Sequence[Difference]) -> list[str]:
    """Say whose errors are over other pixels in the first than in the second: who leaves hard ones out gains."""
    shown = {one.place[0]: [f"{mean:.1%}" for mean in one.means] for one in found if one.metric == "coverage"}
    return [
        f"{method}: errors are over other pixels, {first} are covered in the first, {second} in the second"
        for method, (first, second) in shown.items()
        if first != second
    ]


def _only_one(runs: Sequence[ComparedRun], wanted: Wanted, alignment: str) -> list[str]:
    """Say which methods some runs alone have."""
    have: list[set[str]] = []
    for run in runs:
        places = run.scores.get(wanted.split, {})
        have.append({place[0] for place in places if place[1] == wanted.region and place[2] in ("", alignment)})
    alone = set().union(*have) - have[0].intersection(*have)
    return [f"not in every run, so not compared: {', '.join(sorted(alone))}"] if alone else []


def _distinct(roots: Sequence[Path]) -> list[str]:
    """Return the runs' names, with their parents' where two are called the same."""
    names = [root.resolve().name for root in roots]
    parents = [f"{root.resolve().parent.name}/{name}" for root, name in zip(roots, names, strict=True)]
    return [parent if names.count(name) > 1 else name for name, parent in zip(names, parents, strict=True)]


def _in_words(wanted: Wanted, alignment: str) -> str:
    eye = "both eyes" if wanted.side == BOTH else f"{wanted.side} eye"
    depth = "one median scale a run" if alignment == SCALED else "raw, mm"
    return f"{wanted.split} frames, {eye}, {wanted.region.replace('_', ' ')}, depth {depth}"


def _work(given: argparse.Namespace) -> str:
    sets = [[read_compared(path) for path in paths] for paths in (given.runs, given.a, given.b)]
    wanted = Wanted(given.split, given.side, given.region, given.alignment, given.allow_splits)
    if sets[0] and not sets[1] and not sets[2] and len(sets[0]) > 1:
        comparison = compare_runs(sets[0], wanted)
    elif not sets[0] and sets[1] and sets[2]:
        comparison = compare_sets(sets[1], sets[2], wanted)
    else:
        raise InputError(
            "nothing to compare",
            found=f"{len(sets[0])} runs, {len(sets[1])} of --a, {len(sets[2])} of --b",
            expected="two runs or more, or the runs of --a and of --b",
            do="python -m evaluation.compare logs/one logs/other",
        )
    if given.out is None:
        return markdown(comparison)
    write(comparison, given.out, strips(comparison))
    files = "compare.md, .tex, .csv, .json, .svg, compare_frames.csv"
    return f"{markdown(comparison)}\nwritten: {given.out}{os.sep}{files}"


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.compare",
        description="Compare finished runs frame by frame, with 95 % intervals of the differences.",
    )
    parser.add_argument("runs", nargs="*", type=Path, help="logs/<expname>: each is compared with the first")
    parser.add_argument("--a", nargs="+", type=Path, default=[], help="runs of several seeds")
    parser.add_argument(
        "--b", nargs="+", type=Path, default=[], help="runs of the same seeds, to compare with --a"
    )
    parser.add_argument(
        "--split",
        choices=("test", "train", ALL),
        default="test",
        help="default test; all with --side right, never trained on",
    )
    parser.add_argument("--side", choices=("left", "right", BOTH), default=BOTH, help="eye; default both together")
    parser.add_argument("--region", choices=REGIONS, default="tissue", help="pixels that count; default tissue")
    parser.add_argument("--alignment", choices=("raw", SCALED), help="of depth; default raw where all is in mm")
    parser.add_argument(
        "--allow_splits", action="store_true", help="compare runs that hold other frames out, where both agree"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for Markdown, LaTeX, CSV, JSON, SVG; default: printed alone"
    )
    given = parser.parse_args(arguments)
    return answer(lambda: _work(given))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
