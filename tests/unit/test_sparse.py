"""Depth between sparse points: a smooth surface through them, doubt where they are far."""

from __future__ import annotations

import numpy as np

from stereo_prior.fusion import DepthMap
from stereo_prior.sparse import interpolate
from utils.types import Camera

CAMERA = Camera(90.0, 90.0, 47.5, 39.5, 96, 80)


def test_interpolation_passes_near_its_points_and_doubts_the_distance() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.uniform((0, 0), (50, 79), (80, 2))
    truth = 1 / (0.012 + 2e-5 * np.arange(96))[None].repeat(80, axis=0)
    depth = 1 / (0.012 + 2e-5 * pixels[:, 0])
    depth[5] = 300.0  # seen through an edge
    found, sigma = interpolate(CAMERA, pixels, depth, np.ones((80, 96), bool))
    assert np.abs(found / truth - 1)[:, :50].max() < 0.02
    assert sigma[40, 90] > 3 * sigma[40, 25]
    assert np.isnan(interpolate(CAMERA, pixels[:5], depth[:5], np.ones((80, 96), bool))[0]).all()


def test_where_the_shape_is_unknown_the_plain_surface_stays() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.uniform((0, 0), (95, 79), (120, 2))
    truth = 1 / (0.012 + 2e-5 * np.arange(96))[None].repeat(80, axis=0)
    depth, tissue = 1 / (0.012 + 2e-5 * pixels[:, 0]), np.ones((80, 96), bool)
    seen = np.where(np.arange(96) < 60, 1.1 * truth, np.nan).astype(np.float32)
    plain, plain_sigma = interpolate(CAMERA, pixels, depth, tissue)
    found, sigma = interpolate(CAMERA, pixels, depth, tissue, DepthMap(seen, 0.02 * seen))
    assert np.array_equal(found[:, 60:], plain[:, 60:])
    assert np.array_equal(sigma[:, 60:], plain_sigma[:, 60:])
    assert np.abs(found / truth - 1)[:, :60].max() < 0.02
    unknown = np.full_like(seen, np.nan)
    found, _ = interpolate(CAMERA, pixels, depth, tissue, DepthMap(unknown, unknown))
    assert np.array_equal(found, plain)
