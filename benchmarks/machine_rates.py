"""What a machine reaches: multiplying matrices, and moving memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch

from nerf.fields import SurfaceField
from nerf.layer_kernel import add_product
from utils.compiled import KERNEL, cores, share


@dataclass(frozen=True)
class Rates:
    """What the machine reaches: floating-point operations and bytes a second."""

    matrix: float
    own_product: float
    memory: float


def machine_rates(field: SurfaceField) -> Rates:
    """Measure what the machine reaches on all cores that kernels use."""
    threads = torch.get_num_threads()
    torch.set_num_threads(cores())
    large = torch.randn(2048, 2048)
    matrix = 2 * 2048**3 / _seconds(lambda: large @ large)
    torch.set_num_threads(threads)
    # Far larger than any cache that is not shared with the whole machine.
    source, target = np.ones(1 << 26, np.float32), np.zeros(1 << 26, np.float32)
    memory = 2 * source.nbytes / _seconds(lambda: share(_copy, len(source), source, target))
    inputs, width, rows = field.features, field.hidden.out_features, 1 << 14
    a, b = np.ones((rows, inputs), np.float32), np.ones((inputs, width), np.float32)
    c = np.zeros((rows, width), np.float32)
    own = 2 * rows * inputs * width / _seconds(lambda: share(_multiply, rows, a, b, c))
    return Rates(matrix, own, memory)


def _seconds(work: Callable[[], Any]) -> float:
    """Return the median time of a piece of work that was done before."""
    work()
    times = []
    for _ in range(15):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


@numba.njit(**KERNEL)
def _copy(first, last, source, target):  # type: ignore[no-untyped-def]
    target[first:last] = source[first:last]


@numba.njit(**KERNEL)
def _multiply(first, last, a, b, c):  # type: ignore[no-untyped-def]
    # In blocks that stay in the cache, as the kernels of the product do.
    for start in range(first, last, 256):
        stop = min(start + 256, last)
        add_product(a[start:stop], b, c[start:stop])
