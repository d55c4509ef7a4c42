"""The verdict on a sequence's motion: every class, its words, the frames that are compared, rendered scenes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from stereo_prior import matches as matches_stage
from stereo_prior.matches import MatchOptions
from tests.unit.test_matches import RIGS, make_scene
from utils.artifacts import save_maps
from utils.images import write_rgb
from utils.rigid_motion import PairMotion
from utils.scene import Scene
from utils.scene_motion import RECORD, SceneMotion, judge_motion, measure_motion, read_motion, sampled_pairs

STANDS = PairMotion(
    points=200,
    image_motion_px=0.3,
    still_share=0.95,
    moved_share=0.0,
    still_beside_rigid=0.98,
    rigid_share=0.96,
    off_share=0.0,
    residual_px=0.3,
    travel=0.002,
    travel_mm=0.16,
    turn_degrees=0.05,
    parallax_px=0.3,
    off_mm=0.0,
    moved_mm=0.0,
)
TRAVELS = replace(
    STANDS,
    image_motion_px=20.0,
    still_share=0.01,
    moved_share=0.99,
    still_beside_rigid=0.01,
    travel=0.2,
    travel_mm=16.0,
    parallax_px=8.0,
)
TURNS = replace(STANDS, image_motion_px=20.0, still_share=0.0, moved_share=1.0, turn_degrees=4.0)
BREATHES = replace(STANDS, still_share=0.4, moved_share=0.5, moved_mm=3.0, off_share=0.3, off_mm=2.0, travel=0.04)
ORBITS = replace(TRAVELS, still_share=0.6, moved_share=0.4, still_beside_rigid=0.2, travel=0.04, travel_mm=2.8)
BENDS = replace(TRAVELS, off_share=0.2, off_mm=2.5)


def one_eye(motion: PairMotion) -> PairMotion:
    nan = float("nan")
    return replace(motion, travel=nan, travel_mm=nan, off_mm=nan, moved_mm=nan, still_beside_rigid=nan)


def judged(*motions: PairMotion, tried: int | None = None, eyes: int = 2) -> SceneMotion:
    pairs = [("1", str(number), motion) for number, motion in enumerate(motions, start=2)]
    return judge_motion(pairs, tried or len(pairs), 4.5 if eyes == 2 else float("nan"), 1.0)


@pytest.mark.parametrize(
    ("motions", "camera", "tissue", "words"),
    [
        ([TRAVELS] * 21, "moves", "stands", ""),
        ([ORBITS] * 21, "moves", "stands", ""),
        ([STANDS] * 21, "stands", "stands", "travels 0.16 mm, its eyes are 4.5 mm apart"),
        ([TURNS] * 21, "stands", "stands", "the camera stands (it turns; it travels 0.16 mm"),
        ([STANDS] * 6 + [BREATHES] * 15, "stands", "moves", "up to 50% of the points, by 3.0 mm"),
        ([TRAVELS] * 10 + [BENDS] * 11, "moves", "moves", "up to 20% of the points, by 2.5 mm, beside"),
        ([TRAVELS] * 20 + [BENDS], "moves", "stands", ""),
        ([STANDS] * 10 + [TRAVELS] * 11, "moves", "stands", ""),
    ],
    ids=["normal", "short orbit", "still", "turns", "breathes", "both", "one bad pair", "half of it"],
)
def test_classes_of_two_eyes(motions: list[PairMotion], camera: str, tissue: str, words: str) -> None:
    found = judged(*motions)
    assert (found.camera, found.tissue) == (camera, tissue)
    assert bool(found.warning) == bool(words)
    assert words in found.warning
    assert ("static field" in found.warning) == (tissue == "moves")
    assert ("--poses none" in found.warning) == bool(words)


@pytest.mark.parametrize(
    ("motions", "camera", "tissue"),
    [
        ([TRAVELS] * 21, "moves", "stands"),
        ([STANDS] * 21, "stands", "stands"),
        ([BREATHES] * 21, "stands", "moves"),
        ([replace(BREATHES, off_share=0.0)] * 21, "stands", "unknown"),
        ([ORBITS] * 21, "stands", "unknown"),
        ([BENDS] * 21, "moves", "moves"),
        ([replace(BENDS, off_share=0.07)] * 21, "moves", "stands"),
    ],
)
def test_classes_of_one_eye(motions: list[PairMotion], camera: str, tissue: str) -> None:
    found = judged(*(one_eye(motion) for motion in motions), eyes=1)
    assert (found.camera, found.tissue) == (camera, tissue)
    assert ("one eye" in found.seen) == (tissue != "moves")
    assert bool(found.warning) == (camera == "stands" or tissue == "moves")
    assert "--poses none" not in found.warning
    assert "nan" not in found.seen


def test_too_few_pairs_give_no_verdict() -> None:
    for found in (judged(TRAVELS, TRAVELS, tried=21), judged(tried=21)):
        assert (found.camera, found.tissue, found.warning) == ("unknown", "unknown", "")
        assert "of 21 pairs" in found.seen
    assert judged(TRAVELS, tried=1).camera == "moves"  # two frames have one pair


def test_a_camera_whose_frames_hardly_match_is_not_said_to_stand() -> None:
    assert judged(*[STANDS] * 5, tried=21).camera == "stands"  # it does not travel in what is known
    assert judged(*[BREATHES] * 5, tried=21).camera == "moves"  # it may: standing needs three pairs of four


def test_the_record_leaves_out_what_is_unknown(tmp_path: Path) -> None:
    record = judged(*[one_eye(STANDS)] * 3, eyes=1).to_json()
    assert record["figures"]["pairs"] == 3
    assert "travel" not in record["figures"]
    assert set(record["pairs"][0]) >= {"frame", "other", "still_share"}
    assert "travel" not in record["pairs"][0]
    assert read_motion(tmp_path) == {}
    (tmp_path / RECORD).write_text('{"camera": "moves"}')
    assert read_motion(tmp_path) == {"camera": "moves"}


def test_pairs_of_frames() -> None:
    assert sampled_pairs(2) == [(0, 1)]
    assert len(sampled_pairs(24)) == 21
    pairs = sampled_pairs(1000)
    assert max(max(pair) for pair in pairs) == 999
    assert min(b - a for a, b in pairs) == 41  # near frames too: those far apart may have nothing in common
    assert all(a < b for a, b in pairs)
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("kind", RIGS)
def test_a_ball_before_a_wall_that_the_camera_travels_around(kind: str, tmp_path: Path) -> None:
    scene, _ = make_scene(tmp_path / "scene", RIGS[kind], frames=4)
    matches = tmp_path / "matches"
    matches.mkdir()
    matches_stage.run(MatchOptions(viz=False), out=matches, scene=scene)
    for folder in (matches, None):
        found = measure_motion(Scene.load(scene), folder)
        assert (found.camera, found.tissue, found.warning) == ("moves", "stands", ""), found.seen
    travel = [motion.travel for _, _, motion in measure_motion(Scene.load(scene), matches).pairs]
    assert max(travel) == pytest.approx(2 * 8 / 80, rel=0.35)  # the circle's diameter, of its distance


def test_grey_images_say_nothing(tmp_path: Path) -> None:
    scene, _ = make_scene(tmp_path, RIGS["parallel"], frames=3, grey=True)
    found = measure_motion(Scene.load(scene), None)
    assert found.camera == "unknown"
    assert np.isfinite(found.figures["tried"])


def test_a_tool_counts_where_it_is_not_masked(tmp_path: Path) -> None:
    folder, _ = make_scene(tmp_path, RIGS["parallel"], frames=4)
    scene = Scene.load(folder)
    rng = np.random.default_rng(3)
    tool = cv2.resize(rng.integers(0, 255, (32, 22, 3), dtype=np.uint8), (132, 192), interpolation=cv2.INTER_CUBIC)
    for name in scene.names:
        image = scene.image("left", name)
        image[40:232, 20:152] = tool  # it moves with the endoscope
        write_rgb(scene.image_path("left", name), image)
    assert measure_motion(scene, None).warning
    tissue = np.ones(image.shape[:2], bool)
    tissue[40:232, 20:152] = False
    for name in scene.names:
        save_maps(folder / "masks", "left", name, tissue=tissue, highlight=np.zeros_like(tissue))
    found = measure_motion(scene, None)
    assert (found.camera, found.tissue, found.warning) == ("moves", "stands", "")
