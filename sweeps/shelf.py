"""Where the results of a sweep lie: found among its runs, linked to every run that shares them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from sweeps.plan import Made, Run
from utils.artifacts import STAMP, read_json, replace_folder
from utils.errors import InputError
from utils.stages import finished


class Shelf:
    """The finished results that the runs of a sweep can use."""

    def __init__(self, runs: Sequence[Run], homes: Sequence[Path]) -> None:
        """Look for results in the folders of the runs, then in `homes`: other experiments on the same scenes."""
        self._runs, self._homes = runs, set(homes) - {run.folder for run in runs}
        self._places: dict[Made, Path] = {}
        wanted = {run.made(name) for run in runs for name in run.stages}
        stages = tuple(dict.fromkeys(name for name, _ in wanted))
        for folder in dict.fromkeys([*(run.folder for run in runs), *homes]):
            for made, place in _results(folder, stages):
                if made in wanted:
                    self._places.setdefault(made, place)

    def __contains__(self, made: Made) -> bool:
        return made in self._places

    def found(self) -> Iterable[Made]:
        """Return what lies there."""
        return self._places.keys()

    def gather(self) -> None:
        """Bring every result into a run that needs it.

        What other experiments have is copied: those may change any time. What lies in a run to which it does not
        belong any more moves to one where it does; all of it is taken out before anything is put in its place,
        as runs may want what the others have.
        """
        by_folder = {run.folder: run for run in self._runs}
        arrived: dict[Made, tuple[Path, Path]] = {}
        for run in self._runs:
            for name in run.stages:
                made, target = run.made(name), run.folder / name
                place = self._places.get(made)
                if place is None or made in arrived:
                    continue
                holder = by_folder.get(place.parent)
                if holder is not None and holder.made(name) != made:
                    arrived[made] = _taken_out(place, target), target
                elif place.parent in self._homes:
                    copy = _copied(place, target)
                    if copy is not None:
                        arrived[made] = copy, target
        for made, (partial, target) in arrived.items():
            replace_folder(partial, target)
            self._places[made] = target
        self._places = {made: place for made, place in self._places.items() if self._usable(made, place)}

    def _usable(self, made: Made, place: Path) -> bool:
        return place.parent not in self._homes and finished(place, made[1])

    def keep(self, run: Run, names: Iterable[str]) -> list[str]:
        """Enter what a run has finished; return the stages that are not there."""
        missing = []
        # A network drive remembers for a while what was not there, unless the folder is opened.
        with contextlib.suppress(FileNotFoundError), os.scandir(run.folder):
            pass
        for name in names:
            if finished(run.folder / name, run.hashes[name]):
                self._places[run.made(name)] = (run.folder / name).resolve()
            else:
                missing.append(name)
        return missing

    def link(self, run: Run) -> None:
        """Link into a run's folder every result that it shares and has not made itself."""
        run.folder.mkdir(parents=True, exist_ok=True)
        for name in run.stages:
            place, target = self._places.get(run.made(name)), run.folder / name
            if place is None:
                if target.is_symlink():
                    target.unlink()
                continue
            if target.resolve() == place.resolve():
                continue
            partial = run.folder / f"{name}.link"
            partial.unlink(missing_ok=True)
            partial.symlink_to(os.path.relpath(place.resolve(), run.folder.resolve()), target_is_directory=True)
            replace_folder(partial, target)

    def complete(self, run: Run) -> bool:
        """Whether every stage of a run is there."""
        return all(run.made(name) in self._places for name in run.chosen)


def _results(folder: Path, stages: Sequence[str]) -> Iterable[tuple[Made, Path]]:
    for name in stages:
        place = folder / name
        if not place.is_symlink() and (place / STAMP).exists():
            try:
                yield (name, str(read_json(place / STAMP)["hash"])), place
            except (InputError, KeyError, TypeError):
                continue  # a damaged stamp: the stage is made again


def _taken_out(place: Path, target: Path) -> Path:
    """Move a finished folder beside the place where it will lie; return where it waits."""
    partial = target.with_name(f"{target.name}.moved")
    shutil.rmtree(partial, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    place.rename(partial)
    return partial


def _copied(place: Path, target: Path) -> Path | None:
    """Copy a finished folder by hard links where the disk has them: finished files are replaced, never changed.

    Returns None where another process replaced the folder in the meantime: the copy may be of both.
    """
    partial = target.with_name(f"{target.name}.copy")
    shutil.rmtree(partial, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    before = _identity(place)
    try:
        shutil.copytree(place, partial, copy_function=_link_or_copy)
    except (FileNotFoundError, shutil.Error):
        if before is not None and _identity(place) == before:
            raise
    if before is not None and _identity(place) == before:
        return partial
    shutil.rmtree(partial, ignore_errors=True)
    return None


def _identity(folder: Path) -> int | None:
    """Return what tells a folder from the one that takes its place; None where there is none."""
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
