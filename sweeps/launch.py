"""Run the program in a process of its own that does not outlive the one that started it.

`python -m sweeps.launch PARENT FILE WORDS…` runs a Python file with words on its command line.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
LOG = "sweep.log"
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of Linux' prctl


@dataclass(frozen=True)
class Outcome:
    """How a task ended: its exit status (None: the machine or process that ran it was lost), and why it failed."""

    status: int | None
    words: str = ""

    @property
    def good(self) -> bool:
        """Whether the task did what it should."""
        return self.status == 0

    @property
    def hopeless(self) -> bool:
        """Whether trying again cannot help: the input is wrong."""
        return self.status == 2


def command(words: Sequence[str], program: Path) -> list[str]:
    """Return the command line of a run that ends with the process that starts it."""
    return [sys.executable, "-m", "sweeps.launch", str(os.getpid()), str(program), *words]


def start(words: Sequence[str], log: IO[bytes], extra: dict[str, str], program: Path) -> subprocess.Popen[bytes]:
    """Start a run; what it prints goes into `log`."""
    log.write(f"\n--- {time.strftime('%Y-%m-%d %H:%M:%S')} {program.name} {' '.join(words)}\n".encode())
    log.flush()
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | extra
    return subprocess.Popen(
        command(words, program), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
    )


def judge(status: int, log: Path) -> Outcome:
    """Return the outcome of a process that ended, with the error that its log shows."""
    if status == 0:
        return Outcome(0)
    if status < 0:
        return Outcome(status, f"killed by {signal.Signals(-status).name}: see {log}")
    return Outcome(status, _error_of(log) or f"exit status {status}: see {log}")


def _error_of(log: Path) -> str:
    """Return the last error that a log shows: ours with all its lines, or the last line of a traceback."""
    lines = log.read_text(errors="replace").rstrip().splitlines()
    begin = max((place for place, line in enumerate(lines) if line.startswith("--- ")), default=-1)
    last = lines[begin + 1 :]
    starts = [place for place, line in enumerate(last) if line.startswith("error: ")]
    if starts:
        return " ".join(" ".join(last[starts[-1] : starts[-1] + 4]).split())
    return " ".join(last[-1].split()) if last else ""


def execute(words: Sequence[str], log: Path, program: Path, extra: dict[str, str]) -> Outcome:
    """Run to the end and return the outcome: what a worker of a cluster does."""
    with open(log, "ab") as file:
        process = start(words, file, extra, program)
        return judge(process.wait(), log)


def die_with(parent: int) -> None:
    """Ask Linux to kill this process when the one that started it ends; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PARENT_DEATH, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    program = Path(sys.argv[2])
    sys.argv = sys.argv[2:]
    sys.path[0] = str(program.parent)
    runpy.run_path(str(program), run_name="__main__")
