"""The stage `scene`: names, splits, sizes, undistortion, masks."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stereo_prior import scene as stage
from stereo_prior.scene import SceneOptions
from tests.synthetic import (
    BALL_ON_WALL,
    border_mask,
    parallel_rig,
    path,
    reference_flags,
    render,
    verged_rig,
    world_from,
    write_calibration,
    write_dataset,
)
from utils.artifacts import file_hash, read_json
from utils.images import read_rgb, write_rgb
from utils.options import parse_options, stamped
from utils.scene import Scene
from utils.stages import run_stages

GREY = np.full((128, 160, 3), 90, np.uint8)


def prepare(datadir: Path, out: Path, **options: Any) -> Scene:
    given = SceneOptions(datadir=str(datadir), **options)
    stage.check(given)
    stage.run(given, out=out)
    return Scene.load(out)


def write_plain(folder: Path, names: list[str], *, right: bool = False) -> None:
    """Write grey images of the given names and a calibration of one eye (or two)."""
    for name in names:
        write_rgb(folder / "l/images" / name, GREY)
        if right:
            write_rgb(folder / "r/images" / name, GREY)
    write_calibration(folder / "calib.yaml", parallel_rig() if right else parallel_rig().left_only())


def test_an_undistorted_scene_points_to_its_own_images(tmp_path: Path) -> None:
    rig = write_dataset(tmp_path / "data", frames=2, ending=".jpg", masks=True)
    scene = prepare(tmp_path / "data", tmp_path / "out", train_binocular=True)
    assert scene.names == ("1", "2")
    assert scene.sides == ("left", "right")
    assert scene.rig.left == rig.left
    assert scene.rig.right == rig.right
    np.testing.assert_allclose(scene.rig.left_from("right"), rig.left_from("right"))
    assert scene.image_path("right", "2") == tmp_path / "data/r/images/2.jpg"
    assert not (tmp_path / "out/images").exists()
    tissue, highlight = scene.masks("right", "2")
    np.testing.assert_array_equal(tissue, border_mask(rig.left))
    assert highlight.shape == tissue.shape
    record = read_json(tmp_path / "out/frames.json")
    assert record["image_size"] == [160, 128]
    assert record["undistorted"] is False
    assert record["hashes"]["left_1"] == file_hash(tmp_path / "data/l/images/1.jpg")
    assert record["lenses"]["left"]["camera"]["cx"] == rig.left.cx
    assert all(line.startswith("[ok]") for line in record["checks"])


def test_the_summary_has_the_figures_of_the_rig(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", verged_rig(vergence_degrees=20), frames=2)
    options = SceneOptions(datadir=str(tmp_path / "data"))
    summary = stage.run(options, out=tmp_path / "out")
    # chord of 20 degrees at 80 mm: 2 * 80 * sin 10
    assert summary.startswith(
        "2 stereo frames 160x128, 1 train 1 test, baseline 27.78 mm, vergence 20.0 degrees, tissue 100.0 %"
    )


def test_frames_are_in_natural_order_and_every_eighth_is_test(tmp_path: Path) -> None:
    write_plain(tmp_path / "data", [f"f{i}.png" for i in range(1, 19)])
    scene = prepare(tmp_path / "data", tmp_path / "out")
    assert scene.names == tuple(f"f{i}" for i in range(1, 19))
    assert scene.test == ("f1", "f9", "f17")
    assert len(scene.train) == 15
    assert not scene.rig.stereo


def test_one_frame_is_a_training_frame(tmp_path: Path) -> None:
    write_plain(tmp_path / "data", ["only.png"], right=True)
    scene = prepare(tmp_path / "data", tmp_path / "out", train_binocular=True)
    assert scene.train == ("only",)
    assert scene.test == ()


@pytest.mark.parametrize(
    ("train", "test", "expected_train", "expected_test"),
    [
        ("b.png\n\nd.png\n", "a\n", "bd", "a"),  # c takes no part
        ("\ufeffd\r\nb.png\r\n", None, "bd", "ac"),
        (None, "c.png", "abd", "c"),
        (None, "", "abcd", ""),
        ("a\nb\nc\nd\n", None, "abcd", ""),
    ],
)
def test_lists_say_what_is_train_and_test(
    tmp_path: Path, train: str | None, test: str | None, expected_train: str, expected_test: str
) -> None:
    write_plain(tmp_path / "data", ["a.png", "b.png", "c.png", "d.png"])
    for name, text in (("train.txt", train), ("test.txt", test)):
        if text is not None:
            (tmp_path / "data" / name).write_bytes(text.encode())
    scene = prepare(tmp_path / "data", tmp_path / "out")
    assert "".join(scene.train) == expected_train
    assert "".join(scene.test) == expected_test


def test_names_with_dots_keep_them(tmp_path: Path) -> None:
    write_plain(tmp_path / "data", ["v1.0.png", "v1.1.png"])
    (tmp_path / "data/train.txt").write_text("v1.1\n")
    assert prepare(tmp_path / "data", tmp_path / "out").train == ("v1.1",)


def test_undistorted_images_are_what_a_pinhole_camera_sees(tmp_path: Path) -> None:
    terms = (-0.25, 0.08, 0.002, -0.001, 0.0)
    rig = write_dataset(tmp_path / "data", frames=2, distortion={"left": terms, "right": terms})
    scene = prepare(tmp_path / "data", tmp_path / "out")
    assert scene.rig.left == rig.left
    for side in scene.sides:
        tissue, _ = scene.masks(side, "2")
        seen = scene.image(side, "2").astype(float)
        pose = world_from(rig, side, path(2)[1])
        straight = render(BALL_ON_WALL, rig.camera(side), pose).rgb.astype(float)
        distorted = read_rgb(tmp_path / f"data/{side[0]}/images/2.png").astype(float)
        error = np.abs(seen - straight)[tissue].mean()
        assert error < 4
        assert error < 0.2 * np.abs(distorted - straight)[tissue].mean()
        assert scene.images[f"{side}_2"] == f"images/{side}_2.png"
    record = read_json(tmp_path / "out/frames.json")
    assert record["undistorted"] is True
    assert record["lenses"]["right"]["distortion"] == list(terms)


def test_what_undistortion_cannot_see_is_not_tissue(tmp_path: Path) -> None:
    # with k1 > 0 the straight image reaches farther than the stored one: its corners have no colour
    rig = write_dataset(tmp_path / "data", frames=1, distortion={"left": (0.3, 0, 0, 0, 0)})
    scene = prepare(tmp_path / "data", tmp_path / "out")
    tissue, _ = scene.masks("left", "1")
    assert not tissue[0, 0]
    assert tissue[64, 80]
    straight = render(BALL_ON_WALL, rig.left, np.eye(4)).rgb.astype(float)
    assert np.abs(scene.image("left", "1") - straight)[tissue].max() < 60
    assert scene.masks("right", "1")[0].all()


def test_factor_averages_blocks_and_keeps_directions(tmp_path: Path) -> None:
    rig = write_dataset(tmp_path / "data", frames=1, masks=True)
    scene = prepare(tmp_path / "data", tmp_path / "out", factor=2)
    stored = read_rgb(tmp_path / "data/l/images/1.png").astype(float)
    blocks = stored.reshape(64, 2, 80, 2, 3).mean(axis=(1, 3))
    assert np.abs(scene.image("left", "1") - blocks).max() <= 0.5
    assert scene.rig.left == rig.left.resized(80, 64)
    # the centre of block (0, 0) is pixel (0.5, 0.5) of the stored image: the same direction
    assert (0 - scene.rig.left.cx) / scene.rig.left.fx == pytest.approx((0.5 - rig.left.cx) / rig.left.fx)
    tissue, _ = scene.masks("left", "1")
    np.testing.assert_array_equal(tissue, border_mask(scene.rig.left, 4))


def test_a_frame_without_mask_is_all_tissue(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dataset(tmp_path / "data", frames=2, masks=True)
    (tmp_path / "data/mask_l/2.png").unlink()
    with caplog.at_level(logging.WARNING, logger="specula"):
        scene = prepare(tmp_path / "data", tmp_path / "out")
    assert scene.masks("left", "2")[0].all()
    assert not scene.masks("left", "1")[0].all()
    assert "1 of 2 left images have no mask" in caplog.text


def black_out(image: Path, columns: slice, rows: slice = slice(None)) -> None:
    rgb = read_rgb(image)
    rgb[rows, columns] = 2
    write_rgb(image, rgb)


def test_a_border_that_is_black_in_all_frames_is_not_tissue(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_dataset(tmp_path / "data", parallel_rig(), frames=2)
    for name in ("1", "2"):
        black_out(tmp_path / f"data/l/images/{name}.png", slice(0, 20))
    black_out(tmp_path / "data/l/images/1.png", slice(140, 160))  # in one frame only: a shadow
    for name in ("1", "2"):
        black_out(tmp_path / f"data/l/images/{name}.png", slice(70, 90), slice(50, 70))  # not at the edge
    with caplog.at_level(logging.INFO, logger="specula"):
        scene = prepare(tmp_path / "data", tmp_path / "out")
    tissue, _ = scene.masks("left", "1")
    assert not tissue[:, :20].any()
    assert tissue[:, 23:].all()  # 2 px of soft edge
    assert scene.masks("right", "1")[0].all()
    assert "black in every frame" in caplog.text


def test_a_mask_file_says_more_than_black(tmp_path: Path) -> None:
    rig = write_dataset(tmp_path / "data", frames=1, masks=True)
    black_out(tmp_path / "data/l/images/1.png", slice(0, 40))
    scene = prepare(tmp_path / "data", tmp_path / "out")
    np.testing.assert_array_equal(scene.masks("left", "1")[0], border_mask(rig.left))


def test_a_calibrated_eye_without_images_stays_in_the_rig(tmp_path: Path) -> None:
    rig = write_dataset(tmp_path / "data", frames=2)
    shutil.rmtree(tmp_path / "data/r")
    scene = prepare(tmp_path / "data", tmp_path / "out", factor=2)
    assert scene.sides == ("left",)
    assert rig.right is not None
    assert scene.rig.right == rig.right.resized(80, 64)
    assert any("left images only" in line for line in read_json(tmp_path / "out/frames.json")["checks"])


def test_right_images_without_their_calibration_are_ignored_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = write_dataset(tmp_path / "data", frames=2)
    (tmp_path / "data/r/images/2.png").unlink()  # not even looked at
    write_calibration(tmp_path / "data/calib.yaml", rig.left_only())
    scene = prepare(tmp_path / "data", tmp_path / "out")
    assert scene.sides == ("left",)
    assert "right images are ignored" in caplog.text


def test_rectified_images_name_their_cut(tmp_path: Path) -> None:
    rig = write_dataset(tmp_path / "data", frames=2)
    for side, cut in (("l", 20), ("r", 4)):
        for name in ("1", "2"):
            image = read_rgb(tmp_path / f"data/{side}/images/{name}.png")
            write_rgb(tmp_path / f"data/{side}/rectify/{name}_{cut}.png", image[:, cut:])
    (tmp_path / "data/train.txt").write_text("1_20.png\n")
    scene = prepare(tmp_path / "data", tmp_path / "out", image_dir="rectify")
    assert scene.names == ("1", "2")
    assert scene.train == ("1",)
    assert rig.right is not None
    assert scene.rig.right is not None
    assert scene.rig.left.cx == pytest.approx(rig.left.cx - 20)
    assert scene.rig.right.cx == pytest.approx(rig.right.cx - 4)
    assert (scene.rig.left.width, scene.rig.right.width) == (140, 156)


def test_the_calibration_of_the_reference_flags(tmp_path: Path) -> None:
    for side, width in (("l", 384), ("r", 410)):
        write_rgb(tmp_path / f"data/{side}/images/1.png", np.full((320, width, 3), 90, np.uint8))
    words = [f"--{key}={','.join(map(str, value))}" for key, value in reference_flags().items()]
    words += ["--datadir", str(tmp_path / "data"), "--rotation_convention", "matlab", "--pixel_origin", "1"]
    options = parse_options({"scene": SceneOptions}, {}, words)[0]["scene"]
    stage.check(options)
    summary = stage.run(options, out=tmp_path / "out")
    assert "baseline 433.60 mm, vergence 40.5 degrees" in summary
    assert Scene.load(tmp_path / "out").rig.left.cx == pytest.approx(180.44)


def test_binocular_training_does_not_redo_the_scene() -> None:
    assert stamped(SceneOptions(train_binocular=True)) == stamped(SceneOptions())
    assert stamped(SceneOptions(factor=2)) != stamped(SceneOptions())


def test_a_changed_mask_redoes_the_scene(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dataset(tmp_path / "data", frames=1, masks=True)
    options = {"scene": SceneOptions(datadir=str(tmp_path / "data"))}
    stages = [stage.STAGE]

    def run() -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="specula"):
            run_stages(stages, options, tmp_path / "logs", chosen=["scene"])
        return caplog.text

    assert "1 stereo frames" in run()
    assert "nothing to do" in run()
    write_rgb(tmp_path / "data/mask_r/1.png", np.full((128, 160), 255, np.uint8))
    assert "nothing to do" not in run()
    assert Scene.load(tmp_path / "logs/scene").masks("right", "1")[0].all()
