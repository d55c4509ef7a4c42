"""Which runs may be compared at all: the same images, truth, splits, protocol and units, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evaluation.compared_run import ComparedRun
from utils.errors import InputError

RAW, SCALED = "raw", "median_scaled"


def require_comparable(first: ComparedRun, other: ComparedRun, *, allow_splits: bool) -> list[str]:
    """Refuse two runs whose scores mean different things; return what a reader has to know of the others.

    Args:
        first: the run that the other is compared with.
        other: that one.
        allow_splits: go on where other frames are held out; compared are frames of one split in both.

    Raises:
        InputError: what differs, in both runs.
    """
    _require_same(first, other, "protocol", first.metrics["protocol"], other.metrics["protocol"])
    versions = first.stamp.get("version"), other.stamp.get("version")
    _require_same(
        first, other, "version of the evaluation", *versions, do="evaluate both again: run.py --only evaluation"
    )
    scenes = first.scene_stamp.get("version"), other.scene_stamp.get("version")
    _require_same(first, other, "version of the stage scene", *scenes)
    for name, value in first.units.items():
        _require_same(first, other, f"unit of the truth (--{name})", value, other.units[name])
    for side in (side for side in first.scene.sides if side in other.scene.sides):
        sizes = [(run.scene.rig.camera(side).width, run.scene.rig.camera(side).height) for run in (first, other)]
        _require_same(
            first, other, f"size of the {side} images", *(f"{width}x{height}" for width, height in sizes)
        )
        lenses = first.lenses.get(side), other.lenses.get(side)
        _require_same(first, other, f"calibration of the {side} images", *lenses)
        masks = [{path for path in run.masks if path.startswith(f"mask_{side[0]}/")} for run in (first, other)]
        extra = (sorted(masks[0] - masks[1]), sorted(masks[1] - masks[0]))
        _require_same(first, other, f"set of {side} masks", *(_listed(names) or "no other" for names in extra))
    _require_same_files(first, other, "image", first.hashes, other.hashes)
    _require_same_files(first, other, "mask", first.masks, other.masks)
    _require_same_files(first, other, "truth file", first.truth, other.truth)
    return _splits(first, other, allow=allow_splits)


def alignment_of(runs: Iterable[ComparedRun], wanted: str | None) -> str:
    """Return the alignment to compare depth in: raw where all lengths are mm, else what is wanted or possible.

    Raises:
        InputError: lengths of some runs alone are mm, or raw depth is wanted of runs without mm.
    """
    listed = list(runs)
    metric = [run.name for run in listed if run.metric]
    without = [run.name for run in listed if not run.metric]
    if wanted == SCALED or (wanted is None and not metric):
        return SCALED
    if without:
        raise InputError(
            "raw depth cannot be compared where lengths are no millimetres",
            found=f"arbitrary units in {_listed(without)}" + (f", mm in {_listed(metric)}" if metric else ""),
            expected="runs whose lengths are mm",
            do="give --alignment median_scaled: each run's depth times one ratio",
        )
    return RAW


def _splits(first: ComparedRun, other: ComparedRun, *, allow: bool) -> list[str]:
    notes = []
    for split in ("test", "train"):
        mine, theirs = set(getattr(first.scene, split)), set(getattr(other.scene, split))
        if mine == theirs:
            continue
        alone = [
            f"{_listed(sorted(names))} in {run.name} alone" for run, names in _alone(first, other, mine, theirs)
        ]
        if not allow:
            raise InputError(
                f"{first.name} and {other.name} have other {split} frames",
                found="; ".join(alone),
                expected="the same lists: a frame that trained one run alone is no fair test",
                do="compare runs of the same splits, or give --allow_splits for the frames of that split in both",
            )
        notes.append(f"{first.name}, {other.name}: {split} frames {'; '.join(alone)}")
    return notes


def _alone(
    first: ComparedRun, other: ComparedRun, mine: set[str], theirs: set[str]
) -> list[tuple[ComparedRun, set[str]]]:
    return [(run, names) for run, names in ((first, mine - theirs), (other, theirs - mine)) if names]


def _require_same(
    first: ComparedRun,
    other: ComparedRun,
    what: str,
    mine: object,
    theirs: object,
    do: str = "compare runs that share it",
) -> None:
    if mine != theirs:
        raise InputError(
            f"{first.name} and {other.name} cannot be compared: another {what}",
            found=f"{mine} in {first.name}, {theirs} in {other.name}",
            expected=f"one {what}",
            do=do,
        )


def _require_same_files(
    first: ComparedRun, other: ComparedRun, what: str, mine: Mapping[str, str], theirs: Mapping[str, str]
) -> None:
    changed = [name for name, value in mine.items() if theirs.get(name, value) != value]
    strangers = bool(mine) and bool(theirs) and not set(mine) & set(theirs)
    if changed or strangers:
        found = f"{len(changed)} of {len(mine)} differ: {_listed(changed)}" if changed else "no name in both"
        raise InputError(
            f"{first.name} and {other.name} cannot be compared: another {what}",
            found=found,
            expected=f"every {what} that both runs have is the same file, by its hash",
            do="make both runs from the same dataset",
        )


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
