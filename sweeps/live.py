"""Show how a sweep goes: a table that is drawn again on a screen, a line a change where there is none."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from sweeps.plan import Run, Task
from sweeps.results import Result
from sweeps.schedule import Progress

DONE, FAILED, WAITING, RUNNING = "done", "failed", "waiting", "running"
_SHOWN = {"abs_rel": ("abs_rel", ".4f"), "psnr": ("PSNR", ".2f"), "lpips": ("LPIPS", ".4f")}
_REDRAW_SECONDS = 1.0
_TITLE_COLUMNS = 60


class LiveTable:
    """What the user sees while a sweep runs."""

    def __init__(self, runs: Sequence[Run], tasks: Sequence[Task], out: TextIO | None = None) -> None:
        self._runs, self._tasks = runs, tasks
        self._out = out or sys.stderr
        self._screen = self._out.isatty()
        self._lines, self._drawn, self._began = 0, 0.0, time.monotonic()
        self._said: dict[Path, str] = {}

    def show(self, progress: Progress, results: Mapping[Path, Result]) -> None:
        """Draw the table again, or say what has changed; `results` are those of finished runs, by folder."""
        states = {run.folder: state_of(run, self._tasks, progress) for run in self._runs}
        if self._screen:
            if time.monotonic() - self._drawn >= _REDRAW_SECONDS:
                self._draw(states, results)
            return
        for run in self._runs:
            state = states[run.folder].split(":")[0]
            if state != WAITING and state != self._said.get(run.folder):
                self._said[run.folder] = state
                self._out.write(
                    f"{time.strftime('%H:%M:%S')} {run.title}: {self._row(state, results.get(run.folder))}\n"
                )
        self._out.flush()

    def finish(self, progress: Progress, results: Mapping[Path, Result]) -> None:
        """Draw the last state."""
        self._drawn = 0.0
        self.show(progress, results)

    def _draw(self, states: Mapping[Path, str], results: Mapping[Path, Result]) -> None:
        columns, height = shutil.get_terminal_size()
        done, failed, waiting = (list(states.values()).count(state) for state in (DONE, FAILED, WAITING))
        seconds = time.monotonic() - self._began
        head = f"{done} of {len(states)} runs done, {failed} failed, {waiting} waiting, {seconds:.0f} s"
        order = sorted(self._runs, key=lambda run: states[run.folder] in (WAITING, DONE))  # what moves comes first
        shown = order[: max(1, height - 3)]
        lines = [head]
        for run in (run for run in self._runs if run in shown):
            title = run.title[:_TITLE_COLUMNS].ljust(_TITLE_COLUMNS)
            lines.append(f"{title} {self._row(states[run.folder], results.get(run.folder))}")
        if len(shown) < len(order):
            lines.append(f"... and {len(order) - len(shown)} more")
        back = f"\x1b[{self._lines}F" if self._lines else ""
        self._out.write(back + "".join(f"\x1b[2K{line[: columns - 1]}\n" for line in lines) + "\x1b[0J")
        self._out.flush()
        self._lines, self._drawn = len(lines), time.monotonic()

    @staticmethod
    def _row(state: str, result: Result | None) -> str:
        words = [state]
        if result is not None:
            words += [
                f"{name} {result.figures[key]:{form}}"
                for key, (name, form) in _SHOWN.items()
                if key in result.figures
            ]
            if state == FAILED:
                words.append(result.reason)
        return "  ".join(words)


def state_of(run: Run, tasks: Sequence[Task], progress: Progress) -> str:
    """Return done, failed, waiting, or `running: stage` of a run: what its own and shared tasks have come to."""
    needed = {run.made(name) for name in run.chosen}
    mine = [task for task in tasks if any(task.run.made(name) in needed for name in task.stages)]
    if any(task.number in progress.failed for task in mine):
        return FAILED
    if all(task.number in progress.done for task in mine):
        return DONE
    for task in mine:
        if task.number in progress.running:
            making = [name for name in task.stages if (task.run.folder / f"{name}.partial").exists()]
            return f"{RUNNING}: {making[0]}" if making else RUNNING
    return WAITING
