"""Find out what a sweep has to compute: runs, what their stages are made from, and which of them share a stage."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.settings import Setting, in_words
from utils.artifacts import file_hash
from utils.errors import InputError
from utils.stages import Stage, choose, stage_record

Made = tuple[str, str]  # a stage and the hash of what it is made from: equal where the result is


@dataclass(frozen=True)
class Run:
    """One combination of flags on one scene: an experiment of its own.

    Args:
        scene: name of the scene, its expname.
        setting: the swept flags and their values.
        folder: its experiment, `<basedir>/<expname>`.
        words: the command line that makes it, without the program's name.
        hashes: stage -> hash of what it is made from, of all stages of the pipeline.
        chosen: the stages that are asked for.
        inputs: stages that those read and that are not asked for: they must be finished somewhere.
    """

    scene: str
    setting: Setting
    folder: Path
    words: tuple[str, ...]
    hashes: Mapping[str, str]
    chosen: tuple[str, ...]
    inputs: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that its folder needs: what is asked for, and what that reads."""
        return *self.inputs, *self.chosen

    @property
    def title(self) -> str:
        """What the run is called for eyes."""
        return f"{self.scene}: {in_words(self.setting)}"

    def made(self, stage: str) -> Made:
        """Return what identifies the result of a stage."""
        return stage, self.hashes[stage]


@dataclass
class Task:
    """Consecutive stages that one run computes, for itself and for all runs that share them."""

    number: int
    run: Run
    stages: tuple[str, ...]
    needs: set[int] = field(default_factory=set)


class Planner:
    """Describes the runs of one sweep; no file is hashed twice, and no options of a stage are checked twice."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        self._hash = functools.cache(file_hash)
        self._check = functools.cache(_checked)

    def describe(self, options: Mapping[str, Any], *, scene: str, setting: Setting, words: Sequence[str]) -> Run:
        """Check one combination of options as a run of its own would, and hash what its stages are made from.

        Raises:
            InputError: what a stage's own check finds, in the words of the run.
        """
        experiment = options["experiment"]
        names = [stage.name for stage in self._stages]
        chosen = choose(names, experiment.only, experiment.start, experiment.until)
        hashes: dict[str, str] = {}
        for stage in self._stages:
            if stage.name in chosen:
                try:
                    self._check(stage.check, options[stage.name])
                except InputError as error:
                    where = f"{scene}, {in_words(setting)}: {error.what}"
                    raise InputError(where, found=error.found, expected=error.expected, do=error.do) from error
            inputs = {name: hashes[name] for name in stage.reads}
            hashes[stage.name] = stage_record(stage, options[stage.name], inputs, hash_of=self._hash)["hash"]
        folder = Path(experiment.basedir) / experiment.expname
        reads = {name for stage in self._stages if stage.name in chosen for name in stage.reads}
        needed = tuple(name for name in names if name in reads and name not in chosen)
        return Run(scene, setting, folder, tuple(words), hashes, tuple(chosen), needed)


def _checked(check: Callable[[Any], None], options: Any) -> None:
    check(options)


def make_tasks(stages: Sequence[Stage], runs: Sequence[Run], finished: Iterable[Made]) -> list[Task]:
    """Divide what is not finished yet into tasks, so that nothing is computed twice.

    The first run that asks for a result computes it. Its consecutive stages are one task as long as the same runs
    share them: what many wait for comes first, and alone.

    Args:
        stages: the pipeline, in order.
        runs: in the order in which they claim work.
        finished: what lies on disk already.
    """
    sharers: dict[Made, list[int]] = {}
    for place, run in enumerate(runs):
        for name in run.chosen:
            sharers.setdefault(run.made(name), []).append(place)
    reads = {stage.name: stage.reads for stage in stages}
    done, owner = set(finished), dict[Made, Task]()
    tasks: list[Task] = []
    for place, run in enumerate(runs):
        mine: list[Task] = []
        for name in run.chosen:
            made = run.made(name)
            if made in done or sharers[made][0] != place:
                continue
            if not mine or sharers[run.made(mine[-1].stages[-1])] != sharers[made]:
                before = {mine[-1].number} if mine else set()
                mine.append(Task(len(tasks), run, (), before))
                tasks.append(mine[-1])
            mine[-1].stages += (name,)
            owner[made] = mine[-1]
        for task in mine:
            inputs = {run.made(source) for name in task.stages for source in reads[name]}
            task.needs |= {owner[made].number for made in inputs if made in owner} - {task.number}
    return tasks


def without_effect(runs: Sequence[Run]) -> list[str]:
    """Say which runs of a scene are one and the same: a swept flag that changes nothing with these options."""
    first: dict[tuple[str, tuple[Made, ...]], Run] = {}
    lines = []
    for run in runs:
        results = tuple(run.made(name) for name in run.chosen)
        other = first.setdefault((run.scene, results), run)
        if other is not run:
            lines.append(f"{run.title} gives the same as {in_words(other.setting)}: it is computed once")
    return lines
