"""Work on several items at a time in threads: OpenCV, NumPy and PyTorch release the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers() -> int:
    """Return how many items are worked on at a time: the cores that this process may use, at most four."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def each(items: Iterable[Item], words: str, work: Callable[[Item], Result], unit: str = "view") -> list[Result]:
    """Return `work(item)` of every item, in order, with a progress bar called `words`."""
    todo = list(items)
    with ThreadPoolExecutor(max_workers=workers()) as pool:
        return list(tqdm(pool.map(work, todo), total=len(todo), desc=words, unit=unit, disable=None, leave=False))
