"""Run a sweep: plan it, work it off, write its tables; interrupted, the same command goes on."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sweeps.heatmap import heat_maps
from sweeps.live import FAILED, WAITING, LiveTable, state_of
from sweeps.local import LocalWorkers
from sweeps.options import SweepOptions
from sweeps.plan import Planner, Run, Task, make_tasks, without_effect
from sweeps.results import Result, read_result, write_csv, write_text
from sweeps.scenes import Pipeline, Scene, read_scenes, without_sweep
from sweeps.schedule import Progress, work_off
from sweeps.settings import Axis, Setting, combinations, folder_name, read_axes
from sweeps.shelf import Shelf
from sweeps.tables import latex, markdown, remarks, rows
from utils.experiment import ExperimentOptions, open_experiment
from utils.folder_lock import only_one

log = logging.getLogger("specula")

_NOT_SWEPT = ("expname", "basedir", "datadir", "config", "only", "from", "until", "open", "wait", "sweep_task")


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
    scenes = read_scenes(without_sweep(argv), options, pipeline)
    folder = scenes[0].basedir / (
        options.sweep_name or (f"{scenes[0].name}_sweep" if len(scenes) == 1 else "sweep")
    )
    command = shlex.join(["python", pipeline.program.name, *argv])
    sweep = Sweep(folder, scenes, combinations(axes), pipeline, command, axes)
    results = sweep.work(options)
    print((folder / "sweep.md").read_text())
    print(f"table, csv and pictures: {folder}   one folder a run: {results[0].run.folder} ...")
    return 1 if any(result.state == FAILED for result in results) else 0


@dataclass
class Sweep:
    """Every setting on every scene.

    Args:
        folder: where tables, and the runs with a setting, lie.
        scenes: at least one.
        settings: flags and values of each run of a scene; without any, it is the scene's own experiment.
        pipeline: the program.
        command: what makes the sweep, for the tables.
        axes: the swept flags where the settings are all their combinations: heat-maps are drawn over them.
    """

    folder: Path
    scenes: Sequence[Scene]
    settings: Sequence[Setting]
    pipeline: Pipeline
    command: str
    axes: Sequence[Axis] = ()
    _runs: list[Run] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def work(self, options: SweepOptions) -> list[Result]:
        """Bring all runs up to date; return what has become of each, in order.

        Raises:
            InputError: a mistake in a setting or a dataset, found before any run begins; or the sweep is running.
        """
        open_experiment(ExperimentOptions(expname=self.folder.name, basedir=str(self.folder.parent)))
        with only_one(self.folder, wait=False):
            planner = Planner(self.pipeline.stages)
            self._runs = [run for scene in self.scenes for run in self._plan(scene, planner)]
            self._notes = without_effect(self._runs)
            for note in self._notes:
                log.warning("%s", note)
            return self._bring_up_to_date(options)

    def _plan(self, scene: Scene, planner: Planner) -> list[Run]:
        runs = []
        for setting in self.settings:
            words = [*scene.words, *(f"--{flag}={value}" for flag, value in setting)]
            if setting:
                words += [f"--basedir={self.folder / scene.name}", f"--expname={folder_name(setting)}"]
            words += ["--open=false", "--sweep_task"]
            options = self.pipeline.parse(words)
            runs.append(planner.describe(options, scene=scene.name, setting=setting, words=words))
        return runs

    def _bring_up_to_date(self, options: SweepOptions) -> list[Result]:
        shelf = Shelf(self._runs, self._homes() if any(self.settings) else [])
        shelf.take_over()
        shelf.settle()
        tasks = make_tasks(self.pipeline.stages, self._runs, shelf.found())
        results = {run.folder: self._done(shelf, run) for run in self._runs if shelf.complete(run)}
        log.info("sweep: %d runs, %d of them finished before, %d tasks", len(self._runs), len(results), len(tasks))
        progress = Progress()
        if tasks:
            progress = self._work_off(options, shelf, tasks, results)
        for run in self._runs:
            shelf.link(run)
        return self._write(tasks, progress, results)

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
            new = [run for run in self._runs if run.folder not in results and shelf.complete(run)]
            results.update({run.folder: self._done(shelf, run) for run in new})
            return f"it ended without making {', '.join(missing)}" if missing else ""

        def changed(progress: Progress) -> None:
            if len(results) > written[0]:
                written[0] = len(results)
                self._write(tasks, progress, results)
            live.show(progress, results)

        live, written = LiveTable(self._runs, tasks), [len(results)]
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

    def _write(self, tasks: Sequence[Task], progress: Progress, results: Mapping[Path, Result]) -> list[Result]:
        """Write all tables of what is there by now; return what has become of the runs."""
        listed = [results.get(run.folder) or self._unfinished(run, tasks, progress) for run in self._runs]
        flags = list(dict.fromkeys(flag for setting in self.settings for flag, _ in setting))
        write_csv(self.folder / "sweep.csv", listed, flags)
        notes = list(self._notes)
        for scene in self.scenes:
            mine = [result for result in listed if result.run.scene == scene.name]
            left_out = heat_maps(self.axes, mine, self.folder / f"heatmap_{scene.name}.png")
            if left_out:
                notes.append(f"heatmap_{scene.name}.png leaves {left_out} rows of maps out for want of space.")
        title, table = f"Sweep of {', '.join(scene.name for scene in self.scenes[:5])}", rows(listed, flags)
        lines = remarks(listed, flags, self.command, notes)
        write_text(self.folder / "sweep.md", markdown(title, table, lines))
        write_text(self.folder / "sweep.tex", latex(title, table, lines))
        return listed

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
