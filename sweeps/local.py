"""Work off the tasks of a sweep on this machine: some processes at a time, each with cores and GPUs of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sweeps.launch import LOG, Outcome, judge, start
from sweeps.options import SweepOptions
from sweeps.plan import Task
from utils.errors import InputError

_CORES_A_RUN = 4
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Slot:
    """What one run at a time may use: cores by number, and the GPUs that it sees (None: no choice is made)."""

    cores: tuple[int, ...]
    gpus: str | None


@dataclass
class _Job:
    task: Task
    slot: Slot
    process: subprocess.Popen[bytes]
    log: Path
    file: IO[bytes]


class LocalWorkers:
    """Processes of this machine."""

    def __init__(self, options: SweepOptions, program: Path) -> None:
        """Divide the machine. Raises InputError for numbers that it cannot satisfy."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._free = slots(options, cores, _gpus())
        self.size = len(self._free)
        self._jobs: list[_Job] = []
        self._program = program

    def describe(self) -> str:
        """Return one line about what works."""
        slot = self._free[0]
        cores = f"{len(slot.cores)} cores each" if slot.cores else "all cores"
        gpus = f", GPU {', '.join(sorted({str(one.gpus) for one in self._free}))}" if slot.gpus is not None else ""
        return f"{self.size} at a time on this machine, {cores}{gpus}"

    def has_room(self) -> bool:
        """Whether another task can begin."""
        return bool(self._free)

    def submit(self, task: Task, words: list[str]) -> None:
        """Begin a task."""
        slot = self._free.pop(0)
        log = task.run.folder / LOG
        file = open(log, "ab")  # noqa: SIM115 - closed when the process ends
        extra = {} if slot.gpus is None else {"CUDA_VISIBLE_DEVICES": slot.gpus}
        if slot.cores:
            extra |= {"OMP_NUM_THREADS": str(len(slot.cores))}
        process = start(words, file, extra, self._program)
        if slot.cores and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, slot.cores)
        self._jobs.append(_Job(task, slot, process, log, file))

    def wait(self, seconds: float) -> Iterator[tuple[Task, Outcome]]:
        """Yield the tasks that ended, waiting for the first of them at most so long."""
        until = time.monotonic() + seconds
        while True:
            ended = [job for job in self._jobs if job.process.poll() is not None]
            for job in ended:
                self._jobs.remove(job)
                self._free.append(job.slot)
                job.file.close()
                yield job.task, judge(int(job.process.returncode), job.log)
            if ended or time.monotonic() >= until:
                return
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Stop what still runs; what it has finished stays."""
        for job in self._jobs:
            job.process.terminate()
        for job in self._jobs:
            try:
                job.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                job.process.kill()
                job.process.wait()
            job.file.close()
        self._jobs.clear()


def _gpus() -> list[str]:
    """Return what the GPUs that this process may use are called: a batch system gives some of a machine's."""
    import torch  # takes seconds, and only who divides the machine needs it

    count, given = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in given.split(",")][:count] if given else [str(gpu) for gpu in range(count)]


def slots(options: SweepOptions, cores: list[int], gpus: Sequence[str]) -> list[Slot]:
    """Divide cores and GPUs among the runs at a time.

    Raises:
        InputError: more GPUs for a run than there are, or a number that makes no sense.
    """
    n_gpus = len(gpus)
    share = options.gpus_per_run if options.gpus_per_run >= 0 else min(1.0, n_gpus)
    jobs, cpus = options.sweep_jobs, options.cpus_per_run
    if share > n_gpus or (share > 1 and share != int(share)) or min(jobs, cpus) < 0:
        raise InputError(
            "this machine cannot be divided so",
            found=f"--gpus_per_run {share:g} --sweep_jobs {jobs} --cpus_per_run {cpus}",
            expected=f"at most {n_gpus} GPUs a run, whole numbers above one, nothing negative",
            do="give smaller numbers, or leave the flags out",
        )
    groups = _gpu_groups(share, gpus)
    jobs = jobs or (len(groups) if share else max(1, len(cores) // (cpus or _CORES_A_RUN)))
    mine = cpus or max(1, len(cores) // jobs)
    return [
        Slot(_cores_of(job, mine, cores), groups[job % len(groups)] if share else ("" if n_gpus else None))
        for job in range(jobs)
    ]


def _cores_of(job: int, count: int, cores: list[int]) -> tuple[int, ...]:
    """Return the cores of the job-th run, wrapping around where there are fewer cores than runs ask for."""
    return tuple(sorted({cores[(job * count + place) % len(cores)] for place in range(count)})) if cores else ()


def _gpu_groups(share: float, gpus: Sequence[str]) -> list[str]:
    """Return what each run at a time sees of the GPUs: some whole ones, or one that it shares."""
    if share == 0:
        return []
    if share < 1:
        return [gpu for _ in range(int(1 / share + 1e-9)) for gpu in gpus]
    whole = int(share)
    return [",".join(gpus[first : first + whole]) for first in range(0, len(gpus) - whole + 1, whole)]
