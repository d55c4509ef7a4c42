"""Compiled kernels: what every `numba.njit` of the field is given, and how a kernel is shared among cores."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba

ROOT = Path(__file__).resolve().parents[1]
# The packages that have kernels, and the constants that are compiled into them.
PACKAGES = ("nerf", "stereo_prior", "export/mesh", "utils")
NAME, KEPT_DAYS = "specula_kernels_", 7


def sources_hash(root: Path = ROOT) -> str:
    """Return a hash of all files of `PACKAGES`."""
    found = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (root / package).glob("*.py")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _bases() -> Iterator[Path]:
    """Return where compiled kernels may be kept, the best place first."""
    named: str = getattr(numba.config, "CACHE_DIR", "")
    yield Path(named) if named else ROOT / "__pycache__"
    with contextlib.suppress(RuntimeError):  # nobody without a home
        yield Path.home() / ".cache"
    # Of one's own: what lies there is run.
    yield Path(tempfile.mkdtemp(prefix=NAME))


@functools.cache
def cache_folder() -> Path:
    """Return where compiled kernels are kept, a folder for each state of their sources.

    Numba compiles a kernel again when its own file has changed, not when one that it calls has. Folders of other
    states, of another checkout perhaps, stay for some days.
    """
    for base in _bases():
        folder = base / f"{NAME}{sources_hash()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
            for old in base.glob(f"{NAME}*"):
                if old != folder and time.time() - old.stat().st_mtime > KEPT_DAYS * 86400:
                    shutil.rmtree(old, ignore_errors=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise OSError("no folder for compiled kernels can be written: set NUMBA_CACHE_DIR to one")


setattr(numba.config, "CACHE_DIR", str(cache_folder()))  # noqa: B010

# Short loops over a row's channels become vectors: a quarter less time for looking up tables.
setattr(numba.config, "SLP_VECTORIZE", 1)  # noqa: B010

# Sums may be reordered, but not-a-number stays what it is: it tells that a training diverged. Division by nought
# gives infinity, as in numpy: looking for it would keep loops from becoming vectors.
KERNEL: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}
# What only other kernels call has no way in from Python: none is compiled, and to call it from there is a crash.
INNER: dict[str, Any] = {**KERNEL, "cache": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
MOST_CORES = 16


@functools.cache
def cores() -> int:
    """Return on how many cores kernels run: those that this process may use, at most `MOST_CORES`."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, MOST_CORES)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(cores() - 1, 1), thread_name_prefix="kernel")


def share(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Call `kernel(first, last, *arguments)` for parts of 0 ... count, one part a core, and wait for all.

    Threads, not `numba.prange`: a kernel that numba itself makes parallel takes three times as long to compile,
    and its OpenMP gets in the way of that of torch.
    """
    parts = min(cores(), count)
    borders = [count * part // parts for part in range(parts + 1)] if parts else []
    others = [_pool().submit(kernel, first, last, *arguments) for first, last in itertools.pairwise(borders[1:])]
    if parts:
        kernel(0, borders[1], *arguments)
    for other in others:
        other.result()
