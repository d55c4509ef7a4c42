"""The stage runner: a finished folder is never redone, a changed flag redoes what depends on it."""

from __future__ import annotations

import contextlib
import logging
import resource
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.artifacts import STAMP as STAMP
from utils.artifacts import file_hash, read_json, record_hash, replace_folder, write_json
from utils.errors import InputError, NotApplicable
from utils.options import stamped

log = logging.getLogger("specula")

PENDING = "pending.json"


def _no_files(_: Any) -> list[Path]:
    return []


def _no_check(_: Any) -> None:
    return None


def _every_option(_: Any) -> None:
    return None


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: a function from folders to a folder.

    Args:
        name: its name and its folder's.
        run: `run(options, out=folder, **{input: folder})`, returns one line about what it did.
        options: the dataclass of its options.
        reads: the stages whose folders it reads.
        version: raised when its output changes for the same input.
        files: the files outside `logs/` whose content it depends on.
        check: raises InputError for what is wrong with its options or files; called before any stage runs.
        counted: the names of the options that the result depends on, given all of them; None: every one.
        resumable: a crash keeps its half-written folder, and the next run goes on from there.
    """

    name: str
    run: Callable[..., str]
    options: type
    reads: tuple[str, ...]
    version: int = 1
    files: Callable[[Any], list[Path]] = _no_files
    check: Callable[[Any], None] = _no_check
    counted: Callable[[Any], Collection[str] | None] = _every_option
    resumable: bool = False


def run_stages(
    stages: Sequence[Stage],
    options: Mapping[str, Any],
    root: Path,
    *,
    chosen: Sequence[str],
    fresh: bool = False,
) -> None:
    """Bring the folders of the chosen stages up to date, in order.

    Args:
        stages: the whole pipeline, in order.
        options: name of a stage -> its options.
        root: `logs/<expname>`.
        chosen: names of the stages to run; the others must be finished already where a chosen one reads them.
        fresh: forget half-finished work instead of going on from it.

    Raises:
        InputError: a stage that was not chosen is missing or stale.
    """
    table = {stage.name: stage for stage in stages}
    for stage in stages:
        if stage.name in chosen:
            stage.check(options[stage.name])
    hashes: dict[str, str] = {}
    for stage in stages:
        record = stage_record(stage, options[stage.name], {name: hashes[name] for name in stage.reads})
        hashes[stage.name] = record["hash"]
        if stage.name not in chosen:
            continue
        for name in stage.reads:
            _require_finished(table[name], root, hashes[name])
        if finished(root / stage.name, record["hash"]):
            log.info("%s: finished before, nothing to do", stage.name)
            continue
        _run_one(stage, options[stage.name], root, record, fresh=fresh)


def stage_record(
    stage: Stage, options: Any, inputs: Mapping[str, str], hash_of: Callable[[Path], str] = file_hash
) -> dict[str, Any]:
    """Return what a stage's folder is made from, and the hash of it; `hash_of` reads the files outside `logs/`."""
    record: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "options": stamped(options, stage.counted(options)),
        "inputs": dict(inputs),
        "files": {str(path): hash_of(path) for path in stage.files(options)},
    }
    return record | {"hash": record_hash(record)}


def finished(folder: Path, expected_hash: str) -> bool:
    """Whether a folder was completed from exactly what would make it now."""
    return (folder / STAMP).exists() and read_json(folder / STAMP)["hash"] == expected_hash


def read_stamp(folder: Path) -> dict[str, Any]:
    """Return the stamp of a finished folder: options, inputs, seconds, peak_memory_mb, summary, skipped."""
    return dict(read_json(folder / STAMP))


def skipped(folder: Path) -> str | None:
    """Return why a stage did nothing in this scene, or None where it did its work."""
    reason = read_stamp(folder).get("skipped")
    return str(reason) if reason else None


def choose(names: Sequence[str], only: str, start: str, until: str) -> list[str]:
    """Return the stages that `--only`, `--from` and `--until` choose (empty strings choose nothing)."""
    for flag, text in (("--only", only), ("--from", start), ("--until", until)):
        for name in filter(None, text.split(",")):
            if name not in names:
                raise InputError(
                    f"{flag} {name}: no such stage", found=name, expected=", ".join(names), do="name a stage"
                )
    if only:
        return [name for name in names if name in only.split(",")]
    first = names.index(start) if start else 0
    last = names.index(until) if until else len(names) - 1
    return list(names[first : last + 1])


def _run_one(stage: Stage, options: Any, root: Path, record: dict[str, Any], *, fresh: bool) -> None:
    folder, partial = root / stage.name, root / f"{stage.name}.partial"
    before = _prepare_partial(stage, partial, record, fresh=fresh)
    inputs = {name: root / name for name in stage.reads}
    log.info("%s: started", stage.name)
    began = time.monotonic()
    reason = None
    with _keep_or_remove(stage, partial, record, began, before):
        try:
            summary = stage.run(options, out=partial, **inputs)
        except NotApplicable as error:
            summary = reason = str(error)
    seconds = round(before + time.monotonic() - began, 2)
    memory = round(peak_memory_mb(), 1)
    stamp = record | {"seconds": seconds, "peak_memory_mb": memory, "summary": summary, "skipped": reason}
    (partial / PENDING).unlink(missing_ok=True)
    write_json(partial / STAMP, stamp)
    replace_folder(partial, folder)
    log.info("%s: %s (%.1f s)", stage.name, f"skipped: {reason}" if reason else summary, seconds)


def _prepare_partial(stage: Stage, partial: Path, record: dict[str, Any], *, fresh: bool) -> float:
    """Make the folder to write into; return the seconds that an interrupted run spent there before."""
    pending = read_json(partial / PENDING) if (partial / PENDING).exists() else None
    if stage.resumable and not fresh and pending and pending["hash"] == record["hash"]:
        log.info("%s: going on from where an earlier run stopped", stage.name)
        return float(pending.get("seconds", 0.0))
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    write_json(partial / PENDING, record)
    return 0.0


@contextlib.contextmanager
def _keep_or_remove(
    stage: Stage, partial: Path, record: dict[str, Any], began: float, before: float
) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if stage.resumable:
            with contextlib.suppress(OSError):
                write_json(partial / PENDING, record | {"seconds": before + time.monotonic() - began})
        else:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _require_finished(stage: Stage, root: Path, expected_hash: str) -> None:
    folder = root / stage.name
    if finished(folder, expected_hash):
        return
    stale = (folder / STAMP).exists()
    raise InputError(
        f"stage `{stage.name}` is needed first ({folder})",
        found="a folder made from other options or other files" if stale else "no finished folder",
        expected="the folder that these options make",
        do=f"run with `--from {stage.name}`, or without --only and --from",
    )


def peak_memory_mb() -> float:
    """Return the largest resident memory that this process or one of its children had, MiB."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / 1024
