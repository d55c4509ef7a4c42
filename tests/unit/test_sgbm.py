"""The stereo stage: depth of a ball before a wall, both rigs, both eyes; sub-pixel; ranges; bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stereo_prior import stereo as stage
from stereo_prior.pair import Eye, Pair, fill_unknown
from stereo_prior.rectification import Rectification
from stereo_prior.search_range import search_range
from stereo_prior.sgbm import consistent, match_sgbm, search_both
from stereo_prior.source import StereoOptions
from stereo_prior.subpixel import smooth_by_planes
from tests.synthetic import BALL_ON_WALL, Plane, Surface, disparity, parallel_rig, render, verged_rig, world_from
from utils.artifacts import load_maps, save_maps, write_npz
from utils.errors import InputError, NotApplicable
from utils.images import write_rgb
from utils.scene import Scene
from utils.types import FloatArray, Rig, Side

RIGS = {"parallel": parallel_rig(320, 256), "verged": verged_rig(320, 256, vergence_degrees=28.0)}


def make_scene(folder: Path, rig: Rig, surface: Surface = BALL_ON_WALL) -> dict[Side, FloatArray]:
    """Write a scene of one frame and an empty `matches` folder; return the true depth of its eyes."""
    images, truth = {}, {}
    for side in rig.sides:
        view = render(surface, rig.camera(side), world_from(rig, side, np.eye(4)))
        images[f"{side}_1"], truth[side] = f"images/{side}_1.png", view.depth_mm
        write_rgb(folder / images[f"{side}_1"], view.rgb)
        tissue = np.ones(view.depth_mm.shape, bool)
        tissue[:6] = False
        save_maps(folder / "masks", side, "1", tissue=tissue, highlight=~np.ones_like(tissue))
    Scene(folder, rig, ("1",), ("1",), (), tuple(rig.sides), images).save({})
    return truth


def eye(image: NDArray[Any]) -> Eye:
    usable = np.ones(image.shape[:2], bool)
    return Eye(image.astype(np.float32), usable, usable.copy())


@pytest.mark.parametrize("source", ["sgbm", "sgbm_wls"])
@pytest.mark.parametrize("kind", RIGS)
def test_depth_of_both_eyes(kind: str, source: str, tmp_path: Path) -> None:
    truth = make_scene(tmp_path / "scene", RIGS[kind])
    (tmp_path / "matches").mkdir()
    given = {name: tmp_path / name for name in ("scene", "matches")}
    summary = stage.run(StereoOptions(stereo=source), out=tmp_path / "stereo", **given)
    assert "1 frames" in summary
    for side, truth_mm in truth.items():
        maps = load_maps(tmp_path / "stereo" / source, side, "1")
        known = np.isfinite(maps["depth_mm"])
        off = np.abs(maps["depth_mm"] / truth_mm - 1)[known]
        assert known[6:].mean() > (0.85 if kind == "parallel" else 0.6)
        assert off.mean() < 0.008
        assert not known[:6].any(), "no depth outside the tissue"
        assert {maps[key].dtype for key in maps} == {np.dtype(np.float32)}
        assert ((maps["confidence"] >= 0) & (maps["confidence"] <= 1)).all()
        assert (maps["confidence"][~known] == 0).all()
        assert np.isfinite(maps["sigma_mm"][known]).all()
        # sigma means what it says, within a factor of two
        ratio = np.median(np.abs(maps["depth_mm"] - truth_mm)[known] / maps["sigma_mm"][known])
        assert 0.3 < ratio / 0.67 < 2.5
        sure = maps["confidence"][known] > np.median(maps["confidence"][known])
        assert off[sure].mean() < off[~sure].mean()
    assert (tmp_path / "stereo" / source / "1.png").exists()


def test_disparity_of_a_plane_to_a_fraction_of_a_pixel_and_up_to_the_border() -> None:
    rig = RIGS["parallel"]
    rectification = Rectification.of(rig)
    plane = Plane((0.1, -0.05, 1.0), 80.0)
    views = {side: render(plane, rig.camera(side), world_from(rig, side, np.eye(4))) for side in rig.sides}
    true_px = disparity(rig, views["left"].depth_mm)
    pair = Pair(eye(views["left"].rgb), eye(views["right"].rgb), (true_px.min() - 5, true_px.max() + 5))
    left, right = match_sgbm(pair)
    assert rectification.identity
    seen = np.arange(320)[None] - true_px >= 0
    off = np.abs(left.disparity_px - true_px)[seen]
    assert np.median(off) < 0.05
    assert (off < 0.5).mean() > 0.97
    # block matching alone leaves the first minDisparity + numDisparities columns empty
    raw, raw_right = search_both(pair)
    first = int(np.ceil(true_px.max())) + 2
    assert np.isfinite(raw[:, first : first + 8]).mean() > 0.9
    assert consistent(raw, raw_right, 1.5)[:, 40:].mean() > 0.9
    assert np.isfinite(right.disparity_px).all()


def test_brightness_and_gain_between_the_eyes_do_not_move_disparity() -> None:
    rig = RIGS["parallel"]
    plane = Plane((0.0, 0.05, 1.0), 75.0)
    views = {side: render(plane, rig.camera(side), world_from(rig, side, np.eye(4))) for side in rig.sides}
    true_px = disparity(rig, views["left"].depth_mm)
    darker = 0.85 * views["right"].rgb.astype(np.float32) + 6
    left, _ = match_sgbm(Pair(eye(views["left"].rgb), eye(darker), (true_px.min() - 5, true_px.max() + 5)))
    assert np.median(np.abs(left.disparity_px - true_px)[:, 40:]) < 0.08


def test_without_matches_the_range_is_found_by_a_coarse_search(tmp_path: Path) -> None:
    rig = RIGS["parallel"]
    truth = make_scene(tmp_path, rig)
    scene, rectification = Scene.load(tmp_path), Rectification.of(rig)
    low, high = search_range(rectification, scene, "1", np.zeros(0))
    true_px = disparity(rig, truth["left"])
    assert low < np.percentile(true_px, 2)
    assert high > np.percentile(true_px, 98)
    assert high - low < 60
    # with matches: their extent and a quarter of it, at least 4 px, on both sides
    assert search_range(rectification, scene, "1", np.linspace(10, 20, 101)) == pytest.approx((6.1, 23.9))
    assert search_range(rectification, scene, "1", np.linspace(10, 50, 101)) == pytest.approx((0.6, 59.4))


def test_planes_are_kept_by_smoothing_and_steps_are_not_smeared() -> None:
    rows, columns = np.indices((60, 80))
    plane = np.asarray(0.1 * columns - 0.05 * rows + 3, np.float32)
    certain = np.full(plane.shape, 100.0, np.float32)
    inside = (slice(16, -16), slice(16, -16))
    assert np.allclose(smooth_by_planes(plane, certain)[0][inside], plane[inside], atol=1e-3)
    # deviation 0.1 a pixel, averaged by the window of a Lucas-Kanade step: 0.1 / sqrt(4 pi 3^2) = 0.0094
    white = np.random.default_rng(0).normal(0, 0.1, plane.shape).astype(np.float32)
    noise = cv2.GaussianBlur(white, (0, 0), 3.0)
    smooth, sigma = smooth_by_planes(plane + noise, certain)
    assert (smooth - plane)[inside].std() < 0.7 * noise[inside].std()
    assert np.abs(smooth - plane)[inside].max() < 3 * sigma[inside].max()
    step = np.asarray(np.where(columns > 40, 10.0, 0.0), np.float32)
    kept, _ = smooth_by_planes(step, certain)
    assert np.abs(kept - step).max() < 0.5


def test_unknown_values_are_continued_smoothly() -> None:
    rows, columns = np.indices((64, 64)).astype(np.float32)
    known = np.ones((64, 64), bool)
    known[20:30, 20:30] = False
    filled = fill_unknown(np.where(known, columns, np.nan), known)
    assert (filled[known] == columns[known]).all()
    assert np.abs(filled - columns)[~known].max() < 5
    assert np.isfinite(fill_unknown(rows, np.zeros_like(known))).all()


def test_left_images_only_are_not_for_this_stage(tmp_path: Path) -> None:
    make_scene(tmp_path, RIGS["parallel"].left_only())
    with pytest.raises(NotApplicable, match="left images only"):
        stage.run(StereoOptions(), out=tmp_path / "out", scene=tmp_path, matches=tmp_path)


@pytest.mark.parametrize("text", ["sgmb", "", "sgbm,nothing"])
def test_unknown_sources_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--stereo"):
        stage.check(StereoOptions(stereo=text))


def test_matches_give_the_range(tmp_path: Path) -> None:
    rig = RIGS["verged"]
    make_scene(tmp_path / "scene", rig)
    (tmp_path / "matches").mkdir()
    scene, rectification = Scene.load(tmp_path / "scene"), Rectification.of(rig)
    pixels = np.random.default_rng(0).uniform(60, 200, (50, 2))
    write_npz(tmp_path / "matches" / "1.npz", pixels_left=pixels, pixels_right=pixels, score=np.ones(50))
    found = stage.matched_disparities(scene, rectification, tmp_path / "matches")["1"]
    by_hand = rectification.rectify_pixels(pixels, "left") - rectification.rectify_pixels(pixels, "right")
    in_front = np.isfinite(rectification.depth_from_disparity(by_hand[:, 0]))
    assert np.allclose(found, by_hand[in_front, 0])
