"""Nothing of a test image reaches priors of other frames, the field, or its own render: noise in its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import SIDES, TEST_FRAME, Session, same, with_noise
from utils.artifacts import load_maps, read_json, write_json
from utils.images import write_rgb

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clean_and_noisy(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Session, Session]:
    """Two runs with given poses; the test images of the second are noise."""
    root = tmp_path_factory.mktemp("leak")
    words = ["--train_binocular", "--poses", "file", "--poses_path", str(data / "truth_poses.npz")]
    noisy_data = with_noise(data, root / "noisy")
    sessions = Session(root / "a", data, *words), Session(root / "b", noisy_data, *words)
    for session in sessions:
        assert session.run("--until", "export") == 0
    return sessions


def test_the_noise_was_looked_at_where_it_may_be(clean_and_noisy: tuple[Session, Session]) -> None:
    assert not same(*clean_and_noisy, f"matches/{TEST_FRAME}.npz")
    assert not same(*clean_and_noisy, f"stereo/sgbm/left_{TEST_FRAME}.npz")


def test_nothing_of_a_test_image_reaches_the_priors_of_training_frames(
    clean_and_noisy: tuple[Session, Session],
) -> None:
    for side in SIDES:
        for name in ("1", "2", "3", "4", "6"):
            assert same(*clean_and_noisy, f"prior/{side}_{name}.npz"), f"{side} {name}"


def test_nothing_of_a_test_image_reaches_the_field(clean_and_noisy: tuple[Session, Session]) -> None:
    clean, noisy = clean_and_noisy
    assert clean.weights() == noisy.weights()
    records = [read_json(session.logs / "nerf" / "field.json") for session in clean_and_noisy]
    assert records[0]["exposure"] == records[1]["exposure"]
    assert records[0]["box_from_world"] == records[1]["box_from_world"]
    for side in SIDES:
        assert same(clean, noisy, f"nerf/refinement2/{side}_4.npz")


def test_nothing_of_a_test_image_reaches_corrections_of_poses(
    clean_and_noisy: tuple[Session, Session], tmp_path: Path
) -> None:
    sessions = [session.until_prior(tmp_path / name) for session, name in zip(clean_and_noisy, "ab", strict=True)]
    for session in sessions:
        assert session.run("--until", "nerf", "--refine_poses", "--N_iters", "20") == 0
    assert same(sessions[0], sessions[1], "nerf/poses.npz")


@pytest.mark.parametrize("stage", ["render", "filter"])
def test_a_test_view_is_rendered_without_its_own_image(
    clean_and_noisy: tuple[Session, Session], stage: str
) -> None:
    for side in SIDES:
        for name in (TEST_FRAME, "1"):
            assert same(*clean_and_noisy, f"{stage}/{side}_{name}.npz"), f"{side} {name}"
    for name in ("cloud.ply", "mesh.ply", "texture_kd.png"):
        assert same(*clean_and_noisy, f"export/{name}"), name


def test_no_right_image_reaches_a_field_that_trained_on_left_ones(data: Path, tmp_path: Path) -> None:
    # stereo depth of training frames may owe something to right images: they turn into noise after the prior
    words = ["--poses", "file", "--poses_path", str(data / "truth_poses.npz")]
    clean = Session(tmp_path / "a", data, *words)
    assert clean.run("--until", "prior") == 0
    noisy = clean.until_prior(tmp_path / "b")
    assert clean.run("--until", "filter") == 0
    record, rng = read_json(noisy.logs / "scene" / "frames.json"), np.random.default_rng(8)
    for key in record["images"]:
        if key.startswith("right"):
            record["images"][key] = f"{key}.png"
            write_rgb(noisy.logs / "scene" / f"{key}.png", rng.integers(0, 255, (96, 112, 3), dtype=np.uint8))
    write_json(noisy.logs / "scene" / "frames.json", record)
    assert noisy.run("--from", "nerf", "--until", "filter") == 0
    assert clean.weights() == noisy.weights()
    for name in ("1", TEST_FRAME):
        for stage in ("render", "filter"):
            assert same(clean, noisy, f"{stage}/right_{name}.npz"), f"{stage} {name}"


def test_a_test_image_does_not_say_what_is_tissue_in_others(data: Path, tmp_path: Path) -> None:
    # without masks the black border is found in the images: in those of training frames alone
    without_masks = tmp_path / "clean"
    shutil.copytree(data, without_masks, ignore=shutil.ignore_patterns("mask_*"))
    noisy = with_noise(without_masks, tmp_path / "noisy")
    sessions = [Session(tmp_path / "a", without_masks), Session(tmp_path / "b", noisy)]
    for session in sessions:
        assert session.run("--only", "scene") == 0
    masks = [load_maps(session.logs / "scene" / "masks", "left", "1")["tissue"] for session in sessions]
    assert not masks[0].all()
    np.testing.assert_array_equal(masks[0], masks[1])


def test_sparse_points_that_feed_priors_owe_nothing_to_test_images(left_data: Path, tmp_path: Path) -> None:
    # the scale is given, for test images may take part in placing the cameras
    poses = str(left_data / "truth_poses.npz")
    words = ["--poses", "file", "--poses_path", poses, "--cam_dist", "5.0"]
    noisy = with_noise(left_data, tmp_path / "noisy", sides="l")
    sessions = Session(tmp_path / "a", left_data, *words), Session(tmp_path / "b", noisy, *words)
    for session in sessions:
        assert session.run("--until", "prior") == 0
    assert same(*sessions, "poses/points.npz")
    assert same(*sessions, "monocular/small.safetensors"), "the small network learns from training images alone"
    for name in ("1", "2", "3", "4", "6"):
        assert same(*sessions, f"monocular/{name}.npz"), name
        assert same(*sessions, f"prior/left_{name}.npz"), name
    assert not same(*sessions, f"monocular/{TEST_FRAME}.npz"), "its own image may, and is scored as `prior`"


def test_monocular_depth_of_a_test_image_reaches_no_other_prior(data: Path, tmp_path: Path) -> None:
    # with two eyes the network also learns from matches, which test images have too
    words = ["--poses", "file", "--poses_path", str(data / "truth_poses.npz"), "--monocular", "small"]
    noisy = with_noise(data, tmp_path / "noisy")
    sessions = Session(tmp_path / "a", data, *words), Session(tmp_path / "b", noisy, *words)
    for session in sessions:
        assert session.run("--until", "prior") == 0
    for name in ("1", "2", "3", "4", "6"):
        assert same(*sessions, f"monocular/{name}.npz"), name
        for side in SIDES:
            assert same(*sessions, f"prior/{side}_{name}.npz"), f"{side} {name}"
