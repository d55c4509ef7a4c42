"""Run a sweep: plan it, work it off, write its tables; interrupted, the same command goes on."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sweeps.heatmap import heat_maps
from sweeps.live import FAILED, WAITING, LiveTable, state_of
from sweeps.local import LocalWorkers
from sweeps.options import SweepOptions, asked
from sweeps.plan import Planner, Run, Task, make_tasks, without_effect
from sweeps.results import Result, read_result, write_csv, write_text
from sweeps.schedule import Progress, work_off
from sweeps.settings import Axis, combinations, folder_name, read_axes
from sweeps.shelf import Shelf
from sweeps.tables import latex, markdown, remarks, rows
from utils.errors import InputError
from utils.experiment import ExperimentOptions, open_experiment
from utils.folder_lock import only_one
from utils.stages import Stage

log = logging.getLogger("specula")

Parse = Callable[[Sequence[str]], Mapping[str, Any]]
_NOT_SWEPT = ("expname", "basedir", "datadir", "config", "only", "from", "until", "open", "wait", "sweep_task")


@dataclass(frozen=True)
class Pipeline:
    """What a sweep has to know about the program that it runs.

    Args:
        stages: in order.
        parse: a command line -> the options of every section; raises InputError.
        flags: the names of all flags.
        fixed: those that cannot be swept, besides the usual ones.
        prepare: makes the input of a scene where the program makes it itself.
        program: the file that Python runs.
    """

    stages: Sequence[Stage]
    parse: Parse
    flags: Sequence[str]
    fixed: Sequence[str]
    prepare: Callable[[Mapping[str, Any]], None]
    program: Path


@dataclass(frozen=True)
class Scene:
    """One scene of a sweep: its name, the words of its command line, and its own experiment."""

    name: str
    words: tuple[str, ...]
    basedir: Path

    @property
    def home(self) -> Path:
        """The experiment that the same command makes without a sweep."""
        return self.basedir / self.name


def run_sweep(argv: Sequence[str], options: SweepOptions, pipeline: Pipeline) -> int:
    """Bring all runs up to date, and write `sweep.csv`, `sweep.md`, `sweep.tex` and a heat-map a scene.

    Args:
        argv: the whole command line.
        options: what it says about the sweep.
        pipeline: the program.

    Returns:
        0 when every run is done, 1 when some failed: those are named in the table.

    Raises:
        InputError: a mistake in the command line, a configuration or a dataset, found before any run begins.
    """
    swept = {field.name for field in fields(SweepOptions)}
    axes = read_axes(options.sweep, pipeline.flags, [*_NOT_SWEPT, *swept, *pipeline.fixed])
    scenes = _scenes(_without_sweep(argv), options, pipeline)
    folder, _ = open_experiment(ExperimentOptions(expname=_name(options, scenes), basedir=str(scenes[0].basedir)))
    with only_one(folder, wait=False):
        planner = Planner(pipeline.stages)
        runs = [run for scene in scenes for run in _runs(scene, axes, folder, pipeline, planner)]
        notes = without_effect(runs)
        for note in notes:
            log.warning("%s", note)
        command = shlex.join(["python", pipeline.program.name, *argv])
        sweep = _Sweep(folder, scenes, axes, runs, pipeline, command, notes)
        return sweep.work(options)


def _without_sweep(argv: Sequence[str]) -> list[str]:
    """Return the command line without the flags of the sweep."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for field in fields(SweepOptions):
        parser.add_argument(f"--{field.name}", nargs="+" if field.default == () else None)
    return parser.parse_known_args(list(argv))[1]


def _scenes(words: Sequence[str], options: SweepOptions, pipeline: Pipeline) -> list[Scene]:
    """Read every scene's configuration, and make its input where the program does that."""
    if options.configs and any(word.split("=")[0] == "--config" for word in words):
        raise InputError(
            "--config and --configs are given",
            found="both",
            expected="one of them",
            do="name every scene by --configs",
        )
    scenes: list[Scene] = []
    for config in options.configs or ("",):
        mine = (*(("--config", config) if config else ()), *words)
        parsed = pipeline.parse(mine)
        if asked(parsed["sweep"]):
            raise InputError(
                f"{config or 'the configuration'} asks for a sweep",
                found="sweep or configs in a configuration file",
                expected="a configuration of one run",
                do="write them on the command line",
            )
        experiment = parsed["experiment"]
        if not experiment.expname or any(
            one.home == Path(experiment.basedir) / experiment.expname for one in scenes
        ):
            raise InputError(
                "the scenes of a sweep need names that differ",
                found=f"expname {experiment.expname or 'missing'} in {config or 'the command line'}",
                expected="one expname a scene",
                do="correct expname in the configurations",
            )
        pipeline.prepare(parsed)
        scenes.append(Scene(experiment.expname, mine, Path(experiment.basedir)))
    return scenes


def _name(options: SweepOptions, scenes: Sequence[Scene]) -> str:
    return options.sweep_name or (f"{scenes[0].name}_sweep" if len(scenes) == 1 else "sweep")


def _runs(scene: Scene, axes: Sequence[Axis], folder: Path, pipeline: Pipeline, planner: Planner) -> list[Run]:
    """Return a scene's runs; without swept flags there is one, the experiment of the scene itself."""
    runs = []
    for setting in combinations(axes):
        words = [*scene.words, *(f"--{flag}={value}" for flag, value in setting)]
        if setting:
            words += [f"--basedir={folder / scene.name}", f"--expname={folder_name(setting)}"]
        words += ["--open=false", "--sweep_task"]
        runs.append(planner.describe(pipeline.parse(words), scene=scene.name, setting=setting, words=words))
    return runs


@dataclass
class _Sweep:
    folder: Path
    scenes: Sequence[Scene]
    axes: Sequence[Axis]
    runs: Sequence[Run]
    pipeline: Pipeline
    command: str
    notes: Sequence[str]

    def work(self, options: SweepOptions) -> int:
        shelf = Shelf(self.runs, self._homes() if self.axes else [])
        shelf.take_over()
        shelf.settle()
        tasks = make_tasks(self.pipeline.stages, self.runs, shelf.found())
        results = {run.folder: self._done(shelf, run) for run in self.runs if shelf.complete(run)}
        log.info("sweep: %d runs, %d of them finished before, %d tasks", len(self.runs), len(results), len(tasks))
        progress = Progress()
        if tasks:
            progress = self._work_off(options, shelf, tasks, results)
        for run in self.runs:
            shelf.link(run)
        failed = self._write(tasks, progress, results)
        print((self.folder / "sweep.md").read_text())
        print(f"table, csv and pictures: {self.folder}   one folder a run: {self.runs[0].folder} ...")
        return 1 if failed else 0

    def _homes(self) -> list[Path]:
        """Return where results may lie besides the runs: plain runs of the scenes, runs of other values before."""
        former = [path for scene in self.scenes for path in sorted((self.folder / scene.name).glob("*"))]
        return [*(scene.home for scene in self.scenes), *(path for path in former if path.is_dir())]

    def _work_off(
        self, options: SweepOptions, shelf: Shelf, tasks: Sequence[Task], results: dict[Path, Result]
    ) -> Progress:
        def prepare(task: Task) -> list[str]:
            shelf.link(task.run)
            return [*task.run.words, f"--only={','.join(task.stages)}"]

        def finish(task: Task) -> str:
            missing = shelf.keep(task.run, task.stages)
            new = [run for run in self.runs if run.folder not in results and shelf.complete(run)]
            results.update({run.folder: self._done(shelf, run) for run in new})
            return f"it ended without making {', '.join(missing)}" if missing else ""

        def changed(progress: Progress) -> None:
            if len(results) > written[0]:
                written[0] = len(results)
                self._write(tasks, progress, results)
            live.show(progress, results)

        live, written = LiveTable(self.runs, tasks), [len(results)]
        with closing(_workers(options, self.folder, self.pipeline.program)) as workers:
            log.info("sweep: %s", workers.describe())
            progress = work_off(
                tasks, workers, retries=options.sweep_retries, prepare=prepare, finish=finish, changed=changed
            )
        live.finish(progress, results)
        return progress

    @staticmethod
    def _done(shelf: Shelf, run: Run) -> Result:
        shelf.link(run)
        return read_result(run, "done", "")

    def _write(self, tasks: Sequence[Task], progress: Progress, results: Mapping[Path, Result]) -> bool:
        """Write all tables of what is there by now; return whether any run failed."""
        listed = [results.get(run.folder) or self._unfinished(run, tasks, progress) for run in self.runs]
        flags = [axis.flag for axis in self.axes]
        write_csv(self.folder / "sweep.csv", listed, flags)
        notes = list(self.notes)
        for scene in self.scenes:
            mine = [result for result in listed if result.run.scene == scene.name]
            left_out = heat_maps(self.axes, mine, self.folder / f"heatmap_{scene.name}.png")
            if left_out:
                notes.append(f"heatmap_{scene.name}.png leaves {left_out} rows of maps out for want of space.")
        title, table = f"Sweep of {', '.join(scene.name for scene in self.scenes[:5])}", rows(listed, flags)
        lines = remarks(listed, flags, self.command, notes)
        write_text(self.folder / "sweep.md", markdown(title, table, lines))
        write_text(self.folder / "sweep.tex", latex(title, table, lines))
        return any(result.state == FAILED for result in listed)

    @staticmethod
    def _unfinished(run: Run, tasks: Sequence[Task], progress: Progress) -> Result:
        state = state_of(run, tasks, progress)
        needed = {run.made(name) for name in run.chosen}
        reasons = [
            progress.failed[task.number]
            for task in tasks
            if task.number in progress.failed and any(task.run.made(name) in needed for name in task.stages)
        ]
        return Result(run, state if state == FAILED else WAITING, reasons[0] if reasons else "", {}, {})


def _workers(options: SweepOptions, folder: Path, program: Path) -> Any:
    if not options.ray:
        return LocalWorkers(options, program)
    from sweeps.cluster import RayWorkers

    return RayWorkers(options, folder, program)
