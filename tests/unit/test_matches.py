"""Matches: pairs lie where the geometry says, whatever --resize; masks, filters and few matches."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stereo_prior import matches as stage
from stereo_prior.matches import MatchOptions
from stereo_prior.rectification import Rectification
from tests.synthetic import BALL_ON_WALL, parallel_rig, path, render, right_pixels, verged_rig, world_from
from utils.artifacts import save_maps
from utils.errors import InputError, NotApplicable
from utils.images import write_rgb
from utils.scene import Scene
from utils.sift import detect, mutual_matches, usable_pixels
from utils.types import FloatArray, Rig

RIGS = {"parallel": parallel_rig(320, 256), "verged": verged_rig(320, 256, vergence_degrees=28.0)}


def make_scene(folder: Path, rig: Rig, *, frames: int = 1, grey: bool = False) -> tuple[Path, FloatArray]:
    """Write a scene of a ball before a wall; return its folder and the left z-depth of the first frame."""
    names = tuple(str(number) for number in range(1, frames + 1))
    images: dict[str, str] = {}
    depth_mm: FloatArray = np.zeros(0)
    for name, world_from_left in zip(names, path(frames), strict=True):
        for side in rig.sides:
            view = render(BALL_ON_WALL, rig.camera(side), world_from(rig, side, world_from_left))
            image = np.full_like(view.rgb, 90) if grey else view.rgb
            images[f"{side}_{name}"] = f"images/{side}_{name}.png"
            write_rgb(folder / images[f"{side}_{name}"], image)
            tissue = np.ones(image.shape[:2], bool)
            save_maps(folder / "masks", side, name, tissue=tissue, highlight=~tissue)
            if side == "left" and name == "1":
                depth_mm = view.depth_mm
    Scene(folder, rig, names, names, (), rig.sides, images).save({"datadir": str(folder)})
    return folder, depth_mm


def run(scene: Path, out: Path, options: MatchOptions | None = None) -> dict[str, FloatArray]:
    out.mkdir(parents=True, exist_ok=True)
    stage.run(options or MatchOptions(), out=out, scene=scene)
    with np.load(out / "1.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module", params=RIGS)
def prepared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Rig, Path, FloatArray]:
    rig = RIGS[request.param]
    return rig, *make_scene(tmp_path_factory.mktemp(request.param), rig)


@pytest.mark.parametrize("resize", [(640, 480), (512, 300)])
def test_matches_lie_where_the_geometry_says(
    prepared: tuple[Rig, Path, FloatArray], resize: tuple[int, int], tmp_path: Path
) -> None:
    rig, scene, depth_mm = prepared
    found = run(scene, tmp_path, MatchOptions(resize=resize))
    assert len(found["score"]) >= 100
    assert ((found["score"] >= 0.2) & (found["score"] <= 1)).all()  # ratio 0.8 and better
    columns, rows = np.rint(found["pixels_left"]).astype(int).T
    expected = right_pixels(rig, found["pixels_left"], depth_mm[rows, columns])
    error_px = np.linalg.norm(found["pixels_right"] - expected, axis=1)
    assert np.nanmedian(error_px) < 0.35
    assert np.nanmean(error_px < 2.0) > 0.9


def test_rows_of_kept_matches_are_close(prepared: tuple[Rig, Path, FloatArray], tmp_path: Path) -> None:
    rig, scene, _ = prepared
    found = run(scene, tmp_path, MatchOptions(match_max_dy=1.0))
    rectification = Rectification.of(rig)
    rows = [rectification.rectify_pixels(found[f"pixels_{side}"], side)[:, 1] for side in ("left", "right")]
    largest_px = 1.0 * rectification.left.height / 480
    assert 0.2 * largest_px < np.abs(rows[0] - rows[1]).max() <= largest_px


def test_masked_pixels_are_not_matched(tmp_path: Path) -> None:
    rig = RIGS["parallel"]
    scene, _ = make_scene(tmp_path / "scene", rig)
    tissue = np.zeros((256, 320), bool)
    tissue[:, 100:] = True
    highlight = np.zeros((256, 320), bool)
    highlight[:100] = True
    save_maps(scene / "masks", "left", "1", tissue=tissue, highlight=highlight)
    found = run(scene, tmp_path / "out")
    assert len(found["score"]) > 50
    assert found["pixels_left"][:, 0].min() > 100
    assert found["pixels_left"][:, 1].min() > 100


def test_left_images_alone_are_not_applicable(tmp_path: Path) -> None:
    scene, _ = make_scene(tmp_path / "scene", RIGS["parallel"].left_only())
    with pytest.raises(NotApplicable, match="left images only"):
        stage.run(MatchOptions(), out=tmp_path, scene=scene)


def test_too_few_matches_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene, _ = make_scene(tmp_path / "scene", RIGS["parallel"], grey=True)
    with caplog.at_level(logging.WARNING, logger="specula"):
        summary = stage.run(MatchOptions(viz=False), out=tmp_path, scene=scene)
    assert "fewer than 8 matches in 1 frames: 1" in caplog.text
    assert "for a verdict" in caplog.text
    assert "1 frames below 8" in summary
    with np.load(tmp_path / "1.npz") as file:
        assert file["pixels_left"].shape == (0, 2)


def test_counts_of_all_frames_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene, _ = make_scene(tmp_path / "scene", RIGS["parallel"], frames=2)
    with caplog.at_level(logging.INFO, logger="specula"):
        run(scene, tmp_path / "out", MatchOptions(viz=False))
    counts = []
    for name in ("1", "2"):
        with np.load(tmp_path / "out" / f"{name}.npz") as file:
            counts.append(len(file["score"]))
    assert f"matches of frame 1: {counts[0]}, 2: {counts[1]}" in caplog.text


@pytest.mark.parametrize("how", ["ncc", "watershed"])
def test_dense_matches_lie_where_the_geometry_says(
    how: str, prepared: tuple[Rig, Path, FloatArray], tmp_path: Path
) -> None:
    rig, scene, depth_mm = prepared
    plain, found = run(scene, tmp_path / "plain"), run(scene, tmp_path / "dense", MatchOptions(densify=how))
    assert set(found) - set(plain) == {"dense_left", "dense_right", "dense_score"}
    for key, values in plain.items():
        np.testing.assert_array_equal(found[key], values)
    assert len(found["dense_score"]) > 20 * len(found["score"])
    columns, rows = np.rint(found["dense_left"]).astype(int).T
    expected = right_pixels(rig, found["dense_left"].astype(float), depth_mm[rows, columns])
    error_px = np.linalg.norm(found["dense_right"] - expected, axis=1)
    assert np.nanmean(error_px < 1.0) > 0.95
    # on the verged rig the pixels are no whole ones: the depth is known near whole ones alone
    close = np.abs(found["dense_left"] - np.rint(found["dense_left"])).max(axis=1) < 0.1
    assert np.nanmedian(error_px[close]) < 0.06
    assert (tmp_path / "dense" / "dense" / "1.png").exists()


def test_dense_matches_keep_to_tissue_outside_highlights(tmp_path: Path) -> None:
    scene, _ = make_scene(tmp_path / "scene", RIGS["parallel"])
    tissue, highlight = np.ones((256, 320), bool), np.zeros((256, 320), bool)
    tissue[:, :100] = False
    highlight[:100] = True
    save_maps(scene / "masks", "left", "1", tissue=tissue, highlight=highlight)
    found = run(scene, tmp_path / "out", MatchOptions(densify="watershed", viz=False))
    assert len(found["dense_score"]) > 5000
    assert found["dense_left"][:, 0].min() >= 100
    assert found["dense_left"][:, 1].min() > 100


def test_without_matches_there_are_no_dense_ones(tmp_path: Path) -> None:
    scene, _ = make_scene(tmp_path / "scene", RIGS["parallel"], grey=True)
    for how in ("ncc", "watershed"):
        found = run(scene, tmp_path / how, MatchOptions(densify=how))
        assert found["dense_left"].shape == (0, 2)


def test_pictures_are_optional(tmp_path: Path) -> None:
    scene, _ = make_scene(tmp_path / "scene", RIGS["parallel"])
    run(scene, tmp_path / "with")
    run(scene, tmp_path / "without", MatchOptions(viz=False))
    assert (tmp_path / "with" / "1.png").exists()
    assert not (tmp_path / "without" / "1.png").exists()


@pytest.mark.parametrize("resize", [(640,), (640, 480, 3), (10, 480)])
def test_impossible_sizes_are_refused(resize: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="resize"):
        stage.check(replace(MatchOptions(), resize=resize))


def test_features_are_not_shifted() -> None:
    """Gaussian blobs with known centres; OpenCV's default is a quarter of a pixel off."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(30, 290, (60, 2))
    columns, rows = np.meshgrid(np.arange(320), np.arange(320))
    image = np.full((320, 320), 60.0)
    for centre in centres:
        distance = (columns - centre[0]) ** 2 + (rows - centre[1]) ** 2
        image += 120 * np.exp(-distance / 2 / rng.uniform(1.5, 6) ** 2)
    rgb = np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    pixels, descriptors = detect(rgb, np.ones((320, 320), bool))
    offsets = pixels[:, None] - centres
    nearest = offsets[np.arange(len(pixels)), np.abs(offsets).sum(-1).argmin(axis=1)]
    found = nearest[np.abs(nearest).max(axis=1) < 1]
    assert len(found) > 40
    np.testing.assert_allclose(np.median(found, axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-3)


def test_mutual_matches_by_hand() -> None:
    def unit(degrees: float) -> list[float]:
        return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]

    descriptors_a = np.array([unit(0), unit(90), unit(50)], np.float32)
    descriptors_b = np.array([unit(2), unit(80), unit(140)], np.float32)
    # a0-b0: 2 degrees against 80; a1-b1: 10 against 50; a2-b1: 30 against 48, but b1 prefers a1
    index_a, index_b, score = mutual_matches(descriptors_a, descriptors_b)
    assert index_a.tolist() == [0, 1]
    assert index_b.tolist() == [0, 1]
    chord = [np.sin(np.radians(1)) / np.sin(np.radians(40)), np.sin(np.radians(5)) / np.sin(np.radians(25))]
    np.testing.assert_allclose(score, 1 - np.array(chord), atol=1e-3)
    strict = mutual_matches(descriptors_a, descriptors_b, ratio=0.1)
    assert strict[0].tolist() == [0]


def test_usable_pixels_keep_away_from_highlights() -> None:
    tissue, highlight = np.ones((11, 11), bool), np.zeros((11, 11), bool)
    highlight[5, 5] = True
    assert (~usable_pixels(tissue, highlight, 2)).sum() == 13 + 4  # OpenCV's 5 x 5 ellipse has 17 pixels
