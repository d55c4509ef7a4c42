"""Convert a dataset on disk into a folder of this program: only when it changed, and all of it or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from utils.artifacts import read_json, record_hash, replace_folder, write_json
from utils.datasets.doctor import examine, line, refusals, require_healthy
from utils.datasets.options import ReaderOptions
from utils.datasets.registry import AUTO, kind_of, read_source
from utils.datasets.source import Finding, Source
from utils.datasets.specula import RECORD as RECORD
from utils.datasets.write import has_poses, list_written, settings, write_settings, write_source
from utils.errors import InputError

VERSION = 2  # raised when the same source is written differently


@dataclass(frozen=True)
class Order:
    """What to convert: the source folder, its kind (`auto`: told by its layout), how to read it, where to."""

    source: Path
    target: Path
    kind: str = AUTO
    options: ReaderOptions = field(default_factory=ReaderOptions)


@dataclass(frozen=True)
class Outcome:
    """A converted folder: its record (`dataset.json`), and whether it was written now or stood there already."""

    record: dict[str, Any]
    fresh: bool

    @property
    def findings(self) -> list[Finding]:
        """What was found in the source when it was converted."""
        return [Finding(**one) for one in self.record["findings"]]


def check(source: Path, kind: str, options: ReaderOptions) -> tuple[Source, list[Finding]]:
    """Return a source and everything that was found in it, refusals included; nothing is written."""
    read = read_source(source, kind, options)
    return read, examine(read, options)


def convert(order: Order) -> Outcome:
    """Bring the target up to date with the source.

    Raises:
        InputError: a source that cannot be read or that the doctor refuses, or a target that holds other things.
    """
    order = replace(order, target=Path(os.path.abspath(order.target)))
    kind = kind_of(order.source, order.kind)
    _refuse_inside(order)
    made_from = _made_from(order, kind)
    standing = _standing(order.target)
    if standing is not None and standing["made_from"] == made_from and _whole(order.target, standing):
        return Outcome(standing, fresh=False)
    if standing is not None:
        _refuse_touched(order.target, standing)
    source, findings = check(order.source, kind, order.options)
    require_healthy(source, findings)
    partial, old = (_beside(order.target, ending) for ending in ("partial", "old"))
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        findings = [*findings, *write_source(source, partial)]
        write_settings(source, order.target, partial)
        record = _record(order, source, findings, made_from) | {"files": _written(partial)}
        write_json(partial / RECORD, record)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if order.target.is_dir() and not any(order.target.iterdir()):
        order.target.rmdir()
    replace_folder(partial, order.target, old)
    return Outcome(record, fresh=True)


def _beside(target: Path, ending: str) -> Path:
    """Return a folder of ours beside the target; hidden, for `NAME.old` may be a user's own copy."""
    return target.with_name(f".{target.name}.{ending}")


def _refuse_inside(order: Order) -> None:
    source, target = order.source.resolve(), order.target.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise InputError(
            f"{order.target} cannot be made of {order.source}",
            found="one of them lies in the other",
            expected="two folders apart from each other",
            do="name another target",
        )


def _made_from(order: Order, kind: str) -> dict[str, Any]:
    """Return what decides the result: the source's files by size and time of change, the kind, the options."""
    listed = _states(sorted(_files_below(order.source)))
    return {
        "version": VERSION,
        "source": str(order.source.resolve()),
        "target": str(order.target.resolve()),
        "kind": kind,
        "options": asdict(order.options),
        "source_files": len(listed),
        "source_hash": record_hash(listed),
    }


def _files_below(folder: Path) -> Iterator[Path]:
    """Return every file below a folder, in linked folders too; each folder once, for links can make rings."""
    seen: set[str] = set()
    for place, below, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield from (path for name in files if (path := Path(place, name)).is_file())


def _written(folder: Path) -> dict[str, list[int] | None]:
    """Return size and time of change of each file below a folder; None of hard links, which change elsewhere."""
    stats = {name: (folder / name).stat() for name in list_written(folder)}
    return {name: [one.st_size, one.st_mtime_ns] if one.st_nlink == 1 else None for name, one in stats.items()}


def _states(files: Iterable[Path]) -> list[list[Any]]:
    """Return path, size and time of change of each file; no size where it is gone."""
    states = [(path, path.stat() if path.is_file() else None) for path in files]
    return [[str(path), state and state.st_size, state and state.st_mtime_ns] for path, state in states]


def _standing(target: Path) -> dict[str, Any] | None:
    """Return the record of an earlier conversion at the target; None for no folder or an empty one.

    Raises:
        InputError: a folder of another origin.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    record = read_json(target / RECORD) if (target / RECORD).is_file() else None
    known = isinstance(record, dict) and "made_from" in record and isinstance(record.get("files"), dict)
    if not known:
        raise InputError(
            f"{target} holds something else",
            found=f"files, and no {RECORD} of an earlier conversion",
            expected="no such folder, an empty one, or one that this command made",
            do="name another folder, or remove it",
        )
    return record


def _refuse_touched(target: Path, record: dict[str, Any]) -> None:
    """Refuse to replace a folder in which somebody added or edited files: masks, lists, settings."""
    before, now = record["files"], _written(target)
    added = sorted(set(now) - set(before) - {RECORD})
    edited = sorted(name for name, state in before.items() if state and now.get(name, state) != state)
    if added or edited:
        names = ", ".join([*added, *edited][:3])
        raise InputError(
            f"{target} would be replaced, and has files that the conversion did not write",
            found=f"{len(added)} added, {len(edited)} edited: {names}",
            expected="the files of the earlier conversion alone; the source or the options are others now",
            do="move them elsewhere, or name another folder",
        )


def _whole(target: Path, record: dict[str, Any]) -> bool:
    """Whether every file is still there, and the files outside the source are what they were."""
    beside = [Path(path) for path, _, _ in record["reads"]]
    return set(record["files"]) <= set(list_written(target)) and record["reads"] == _states(beside)


def _record(order: Order, source: Source, findings: list[Finding], made_from: dict[str, Any]) -> dict[str, Any]:
    frames = source.frames
    return {
        "kind": source.kind,
        "source": str(order.source.resolve()),
        "frames": len(frames),
        "image_size": list(source.image_size),
        "eyes": list(source.lenses),
        "masks": sum(len(frame.tissue) for frame in frames),
        "depth_maps": sum(len(frame.depth_mm) for frame in frames),
        "poses": has_poses(source),
        "metric": source.metric,
        "moving_camera": source.moving_camera,
        "settings": settings(source, order.target),
        "findings": [asdict(finding) for finding in findings],
        "reads": _states(source.reads),
        "made_from": made_from,
    }


def report(findings: list[Finding]) -> list[str]:
    """Return the doctor's report: a line a finding, and a last line with the verdict."""
    refused, warned = len(refusals(findings)), sum(finding.verdict == "warn" for finding in findings)
    verdict = f"{len(findings)} findings: {refused} refused, {warned} warnings"
    return [*map(line, findings), verdict]
