"""Where the results of a sweep lie: found among its runs, linked to every run that shares them."""

from __future__ import annotations

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
        wanted = {run.made(name) for run in runs for name in run.chosen}
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

    def take_over(self) -> None:
        """Copy what was found in other experiments into the first run that needs it: those may change any time."""
        for run in self._runs:
            for name in run.chosen:
                made = run.made(name)
                place = self._places.get(made)
                if place is not None and place.parent in self._homes:
                    self._places[made] = _copied(place, run.folder / name)

    def settle(self) -> None:
        """Move results out of runs to which they do not belong any more, into the first run that needs them."""
        for run in self._runs:
            for name in run.chosen:
                made = run.made(name)
                place = self._places.get(made)
                holder = next(
                    (one for one in self._runs if place is not None and one.folder == place.parent), None
                )
                if place is not None and holder is not None and holder.made(name) != made:
                    replace_folder(place, run.folder / name)
                    self._places[made] = run.folder / name

    def keep(self, run: Run, names: Iterable[str]) -> list[str]:
        """Enter what a run has finished; return the stages that are not there."""
        missing = []
        for name in names:
            if finished(run.folder / name, run.hashes[name]):
                self._places[run.made(name)] = (run.folder / name).resolve()
            else:
                missing.append(name)
        return missing

    def link(self, run: Run) -> None:
        """Link into a run's folder every result that it shares and has not made itself."""
        run.folder.mkdir(parents=True, exist_ok=True)
        for name in run.chosen:
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


def _copied(place: Path, target: Path) -> Path:
    """Copy a finished folder by hard links where the disk has them: finished files are replaced, never changed."""
    partial = target.with_name(f"{target.name}.copy")
    shutil.rmtree(partial, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(place, partial, copy_function=_link_or_copy)
    replace_folder(partial, target)
    return target


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
