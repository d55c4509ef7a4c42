"""Run a sweep: plan it, work it off, write its tables; interrupted, the same command goes on."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sweeps.heatmap import heat_maps
from sweeps.live import FAILED, WAITING, LiveTable, States
from sweeps.local import LocalWorkers
from sweeps.options import SweepOptions
from sweeps.plan import Planner, Run, Task, make_tasks, without_effect
from sweeps.results import Result, read_result, write_csv, write_text
from sweeps.scenes import Pipeline, Scene, read_scenes, without_sweep
from sweeps.schedule import Progress, work_off
from sweeps.settings import Axis, Setting, combinations, folder_name, read_axes
from sweeps.shelf import Shelf
from sweeps.tables import latex, markdown, remarks, rows
from utils.errors import InputError
from utils.experiment import ExperimentOptions, open_experiment
from utils.folder_lock import only_one

log = logging.getLogger("specula")

_WRITING_SHARE = 20.0  # tables of thousands of runs take a second: that is not done anew for every run
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
        self._require_own_folder()
        open_experiment(ExperimentOptions(expname=self.folder.name, basedir=str(self.folder.parent)))
        with only_one(self.folder, wait=False):
            planner = Planner(self.pipeline.stages)
            self._runs = [run for scene in self.scenes for run in self._plan(scene, planner)]
            self._notes = without_effect(self._runs)
            for note in self._notes:
                log.warning("%s", note)
            self._set_aside()
            return self._bring_up_to_date(options)

    def _set_aside(self) -> None:
        """Keep the tables of another command: theirs may be the only ones of its runs."""
        former = self.folder / "sweep.md"
        if not former.exists() or f"`{self.command}`" in former.read_text(encoding="utf-8"):
            return
        stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(former.stat().st_mtime))
        for path in [*self.folder.glob("sweep.*"), *self.folder.glob("heatmap_*.png")]:
            kept = self.folder / "former" / stamp / path.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.replace(kept)
        log.info("the tables of an earlier command are kept in %s", self.folder / "former" / stamp)

    def _require_own_folder(self) -> None:
        """Refuse the folder of a scene's own experiment: its run would wait for the sweep, which waits for it."""
        if any(self.folder.resolve() == scene.home.resolve() for scene in self.scenes):
            raise InputError(
                f"{self.folder} would be the sweep's folder and a run's",
                found=f"a scene and a sweep of the name {self.folder.name}",
                expected="a folder of its own for the tables of the sweep",
                do="give another --sweep_name",
            )

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
        shelf.gather()
        for run in self._runs:
            _require_inputs(run, shelf)
        tasks = make_tasks(self.pipeline.stages, self._runs, shelf.found())
        results = {run.folder: self._done(shelf, run) for run in self._runs if shelf.complete(run)}
        log.info("sweep: %d runs, %d of them finished before, %d tasks", len(self._runs), len(results), len(tasks))
        progress, states = Progress(), States(self._runs, tasks)
        if tasks:
            progress = self._work_off(options, shelf, tasks, states, results)
        for run in self._runs:
            shelf.link(run)
        listed = self._listed(states, progress, results)
        self._write(listed, self._draw(listed))
        return listed

    def _homes(self) -> list[Path]:
        """Return where results may lie besides the runs: plain runs of the scenes, runs of other values before."""
        former = [path for scene in self.scenes for path in sorted((self.folder / scene.name).glob("*"))]
        return [*(scene.home for scene in self.scenes), *(path for path in former if path.is_dir())]

    def _work_off(
        self,
        options: SweepOptions,
        shelf: Shelf,
        tasks: Sequence[Task],
        states: States,
        results: dict[Path, Result],
    ) -> Progress:
        def prepare(task: Task) -> list[str]:
            shelf.link(task.run)
            return [*task.run.words, f"--only={','.join(task.stages)}"]

        def finish(task: Task) -> str:
            missing = shelf.keep(task.run, task.stages)
            new = [run for run in self._runs if run.folder not in results and shelf.complete(run)]
            results.update({run.folder: self._done(shelf, run) for run in new})
            return f"it ended without making {', '.join(missing)}" if missing else ""

        live, written, rest = LiveTable(self._runs, states), len(results), 0.0

        def changed(progress: Progress) -> None:
            nonlocal written, rest
            if len(results) > written and time.monotonic() >= rest:
                began, written = time.monotonic(), len(results)
                self._write(self._listed(states, progress, results))
                rest = time.monotonic() + _WRITING_SHARE * (time.monotonic() - began)
            live.show(progress, results)

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

    def _listed(self, states: States, progress: Progress, results: Mapping[Path, Result]) -> list[Result]:
        """Return what has become of every run by now."""
        listed = []
        for run in self._runs:
            state = states.of(run, progress)
            unfinished = Result(run, state if state == FAILED else WAITING, states.reason(run, progress), {}, {})
            listed.append(results.get(run.folder, unfinished))
        return listed

    def _draw(self, listed: Sequence[Result]) -> list[str]:
        """Draw a heat-map a scene; return what a reader has to know about them."""
        notes = []
        for scene in self.scenes:
            mine = [result for result in listed if result.run.scene == scene.name]
            picture = f"heatmap_{scene.name.replace('/', '_')}.png"
            left_out = heat_maps(self.axes, mine, self.folder / picture)
            if left_out:
                notes.append(f"{picture} leaves {left_out} rows of maps out for want of space.")
        return notes

    def _write(self, listed: Sequence[Result], notes: Sequence[str] = ()) -> None:
        """Write the tables of what is there by now."""
        flags = list(dict.fromkeys(flag for setting in self.settings for flag, _ in setting))
        write_csv(self.folder / "sweep.csv", listed, flags)
        title, table = f"Sweep of {', '.join(scene.name for scene in self.scenes[:5])}", rows(listed, flags)
        lines = remarks(listed, flags, self.command, [*self._notes, *notes])
        write_text(self.folder / "sweep.md", markdown(title, table, lines))
        write_text(self.folder / "sweep.tex", latex(title, table, lines))


def _require_inputs(run: Run, shelf: Shelf) -> None:
    missing = [name for name in run.inputs if run.made(name) not in shelf]
    if missing:
        raise InputError(
            f"{run.title}: stage `{missing[0]}` is needed first",
            found="no finished folder among the runs of the sweep and of the scene",
            expected="the folder that these options make",
            do=f"sweep with `--from {missing[0]}`, or without --only and --from",
        )


def _workers(options: SweepOptions, folder: Path, program: Path) -> Any:
    if not options.ray:
        return LocalWorkers(options, program)
    from sweeps.cluster import RayWorkers

    return RayWorkers(options, folder, program)
