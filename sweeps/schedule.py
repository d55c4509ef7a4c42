"""Work off tasks in the order of their needs: failed ones again, those that need them not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sweeps.launch import Outcome
from sweeps.plan import Task

_LOST_AGAIN = 3  # how often a task comes back whose machine was lost: not its fault
_TICK_SECONDS = 1.0


class Workers(Protocol):
    """What works off tasks: processes of this machine, or a cluster."""

    def has_room(self) -> bool:
        """Whether another task can begin."""
        ...

    def submit(self, task: Task, words: list[str]) -> None:
        """Begin a task."""
        ...

    def wait(self, seconds: float) -> Iterator[tuple[Task, Outcome]]:
        """Yield the tasks that ended, waiting for the first of them at most so long."""
        ...


@dataclass
class Progress:
    """What has become of the tasks, by their numbers."""

    running: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)


def work_off(
    tasks: Sequence[Task],
    workers: Workers,
    *,
    retries: int,
    prepare: Callable[[Task], list[str]],
    finish: Callable[[Task], str],
    changed: Callable[[Progress], None],
) -> Progress:
    """Run every task whose needs are met, until none is left that can run.

    Args:
        tasks: numbered from 0 in order.
        workers: where they run.
        retries: how often a task that failed is tried again; one that lost its machine comes back all the same.
        prepare: makes a task's folder ready, returns its command line.
        finish: takes what a task has made; returns why that is not whole, or an empty string.
        changed: told after every change, and about once a second.
    """
    progress, waiting = Progress(), {task.number: task for task in tasks}
    while True:
        _give_up(waiting, progress)
        for task in [task for task in waiting.values() if task.needs <= progress.done]:
            if not workers.has_room():
                break
            progress.attempts[task.number] = progress.attempts.get(task.number, 0) + 1
            workers.submit(task, prepare(task))
            progress.running.add(task.number)
            del waiting[task.number]
        changed(progress)
        if not progress.running:
            return progress
        for task, outcome in workers.wait(_TICK_SECONDS):
            progress.running.discard(task.number)
            missing = finish(task) if outcome.good else ""
            if outcome.good and not missing:
                progress.done.add(task.number)
            elif _again(task, outcome, progress, retries):
                waiting[task.number] = task
            else:
                progress.failed[task.number] = missing or outcome.words


def _again(task: Task, outcome: Outcome, progress: Progress, retries: int) -> bool:
    """Whether a task that did not succeed is tried once more."""
    if outcome.status is None:
        progress.lost[task.number] = progress.lost.get(task.number, 0) + 1
        return progress.lost[task.number] <= _LOST_AGAIN
    own = progress.attempts[task.number] - progress.lost.get(task.number, 0)
    return not outcome.hopeless and own <= retries


def _give_up(waiting: dict[int, Task], progress: Progress) -> None:
    """Drop the tasks that need one that failed."""
    while True:
        hopeless = [task for task in waiting.values() if task.needs & progress.failed.keys()]
        if not hopeless:
            return
        for task in hopeless:
            cause = min(task.needs & progress.failed.keys())
            progress.failed[task.number] = progress.failed[cause]
            del waiting[task.number]
