"""Compiled kernels: what every `numba.njit` of the field is given, and how a kernel is shared among cores."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba

ROOT = Path(__file__).resolve().parents[1]


def _sources_hash() -> str:
    """Return a hash of all files that have kernels."""
    found = hashlib.sha256()
    for path in sorted(ROOT.glob("*/*.py")):
        content = path.read_bytes()
        if b"numba" in content:
            found.update(path.name.encode() + content)
    return found.hexdigest()[:16]


@functools.cache
def cache_folder() -> Path:
    """Return where compiled kernels are kept, a folder for each state of their sources.

    Numba compiles a kernel again when its own file has changed, not when one that it calls has.
    """
    named: str = getattr(numba.config, "CACHE_DIR", "")
    usual = Path(named) if named else ROOT / "__pycache__"
    for base in (usual, Path.home() / ".cache" / "specula", Path(tempfile.gettempdir()) / "specula"):
        folder = base / f"kernels_{_sources_hash()}"
        try:
            if not folder.exists():
                for old in base.glob("kernels_*"):
                    shutil.rmtree(old, ignore_errors=True)
                folder.mkdir(parents=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return usual


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
