"""Layers of small networks over a block of rows, forwards and backwards, as compiled functions."""

from __future__ import annotations

import numba
import numpy as np

from utils.compiled import INNER


@numba.njit(**INNER)
def add_product(a, b, c):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add a b to c, for a (m, k), b (k, n), c (m, n), in tiles of four by four: each number loaded serves four."""
    m, k = a.shape
    n = b.shape[1]
    rows, inner = m - m % 4, k - k % 4
    for r in range(0, rows, 4):
        c0, c1, c2, c3 = c[r], c[r + 1], c[r + 2], c[r + 3]
        for i in range(0, inner, 4):
            a00, a01, a02, a03 = a[r, i], a[r, i + 1], a[r, i + 2], a[r, i + 3]
            a10, a11, a12, a13 = a[r + 1, i], a[r + 1, i + 1], a[r + 1, i + 2], a[r + 1, i + 3]
            a20, a21, a22, a23 = a[r + 2, i], a[r + 2, i + 1], a[r + 2, i + 2], a[r + 2, i + 3]
            a30, a31, a32, a33 = a[r + 3, i], a[r + 3, i + 1], a[r + 3, i + 2], a[r + 3, i + 3]
            b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
            for j in range(n):
                x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
                c0[j] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
                c1[j] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
                c2[j] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
                c3[j] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3
        for i in range(inner, k):
            for q in range(r, r + 4):
                for j in range(n):
                    c[q, j] += a[q, i] * b[i, j]
    for r in range(rows, m):
        for i in range(k):
            for j in range(n):
                c[r, j] += a[r, i] * b[i, j]


@numba.njit(**INNER)
def layer(rows, weight, bias, out):  # type: ignore[no-untyped-def]
    """Write rows (n, k) times weight (o, k) transposed plus bias to out (n, o), for few outputs."""
    for r in range(len(rows)):
        for o in range(len(weight)):
            total = bias[o]
            for c in range(rows.shape[1]):
                total += rows[r, c] * weight[o, c]
            out[r, o] = total


@numba.njit(**INNER)
def pull_layer(rows, weight, given, of_rows, of_weight, of_bias):  # type: ignore[no-untyped-def]
    """Add the gradients of `layer`, given that of its outputs (n, o); for few outputs."""
    for r in range(len(rows)):
        for o in range(len(weight)):
            pull = given[r, o]
            of_bias[o] += pull
            for c in range(rows.shape[1]):
                of_weight[o, c] += pull * rows[r, c]
                of_rows[r, c] += pull * weight[o, c]


@numba.njit(**INNER)
def rectify(values):  # type: ignore[no-untyped-def]
    """Set what is negative in values (n, k) to nought."""
    for r in range(len(values)):
        for c in range(values.shape[1]):
            values[r, c] = np.float32(0.0) if values[r, c] < 0 else values[r, c]


@numba.njit(**INNER)
def pull_rectify(values, of_values, of_bias):  # type: ignore[no-untyped-def]
    """Set the gradient to nought where values (n, k) were rectified, and add up what reaches the bias (k,)."""
    for r in range(len(values)):
        for c in range(values.shape[1]):
            passed = of_values[r, c] if values[r, c] > 0 else np.float32(0.0)
            of_values[r, c] = passed
            of_bias[c] += passed


@numba.njit(**INNER)
def fill_rows(out, bias):  # type: ignore[no-untyped-def]
    """Set every row of out (n, k) to bias (k,)."""
    for r in range(len(out)):
        for c in range(out.shape[1]):
            out[r, c] = bias[c]
