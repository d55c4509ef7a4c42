"""Calibrations that the images contradict: refused or warned of by the stage `matches`, with what to do."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stereo_prior import matches as stage
from stereo_prior.match_checks import Check, check_calibration
from stereo_prior.matches import MatchOptions
from tests.synthetic import parallel_rig, turn, verged_rig
from tests.unit.test_matches import make_scene
from utils.artifacts import read_json
from utils.errors import InputError
from utils.geometry import FloatArray, invert_rigid, project, rigid, transform
from utils.scene import Scene
from utils.types import Rig

VERGED = verged_rig(320, 256)


def near_parallel() -> Rig:
    """A rig as endoscopes have: not quite parallel, principal points not quite equal."""
    rig = parallel_rig(320, 256)
    return replace(rig, right_from_left=rigid(turn((0.35, 0.6, -0.45)), np.array([-4.5, 0.06, -0.08])))


def tilted() -> Rig:
    """A rig whose right eye looks 0.4 degrees down: its rotation and the transpose differ by 4 px of rows."""
    rig = parallel_rig(320, 256)
    return replace(rig, right_from_left=rigid(turn((0.4, 0.0, 0.0)), np.array([-4.5, 0.0, 0.0])))


RIGS = {"parallel": near_parallel(), "verged": VERGED}


def seen_pixels(rig: Rig, *, noise_px: float = 0.2, wrong: float = 0.15) -> tuple[FloatArray, FloatArray]:
    """Project random points 60 to 110 mm away into both eyes; a share of the pairs is wrong."""
    assert rig.right is not None
    assert rig.right_from_left is not None
    rng = np.random.default_rng(3)
    points = np.stack([rng.uniform(-20, 20, 600), rng.uniform(-20, 20, 600), rng.uniform(60, 110, 600)], -1)
    left, _ = project(rig.left.matrix, points)
    right, _ = project(rig.right.matrix, transform(rig.right_from_left, points))
    left, right = left + rng.normal(0, noise_px, left.shape), right + rng.normal(0, noise_px, right.shape)
    n_wrong = int(wrong * len(left))
    right[:n_wrong] = rng.uniform(0, 250, (n_wrong, 2))
    return left, right


def changed(rig: Rig, right_from_left: FloatArray) -> Rig:
    return replace(rig, right_from_left=right_from_left)


def verdicts(checks: list[Check]) -> set[str]:
    return {check.verdict for check in checks}


@pytest.mark.parametrize("kind", RIGS)
def test_a_good_calibration_is_good(kind: str) -> None:
    checks = check_calibration(RIGS[kind], *seen_pixels(RIGS[kind]))
    assert verdicts(checks) == {"good"}
    assert len(checks) == 3


@pytest.mark.parametrize("kind", RIGS)
def test_swapped_eyes_are_named(kind: str) -> None:
    left, right = seen_pixels(RIGS[kind])
    refusals = [check for check in check_calibration(RIGS[kind], right, left) if check.verdict == "refuse"]
    assert "swapped" in refusals[0].check
    assert "l/ and r/" in refusals[0].do


@pytest.mark.parametrize(("degrees", "verdict"), [(0.5, "warn"), (3.0, "refuse")])
def test_a_tilted_eye_moves_the_rows(degrees: float, verdict: str) -> None:
    """One eye tilted by a: rows move by f tan(a), here 288 px x 0.0087 = 2.5 px and 15 px."""
    rig = RIGS["parallel"]
    assert rig.right_from_left is not None
    tilted = changed(rig, rigid(turn((degrees, 0, 0)) @ rig.right_from_left[:3, :3], rig.right_from_left[:3, 3]))
    checks = check_calibration(tilted, *seen_pixels(rig))
    assert verdicts(checks) & {"warn", "refuse"} == {verdict}
    rows = next(check for check in checks if "row difference" in check.found)
    found_px = float(rows.found.split("row difference ")[1].split(" px")[0])
    assert found_px == pytest.approx(288 * np.tan(np.radians(degrees)), rel=0.15)


@pytest.mark.parametrize("rig", [VERGED, tilted()], ids=["verged", "tilted"])
def test_the_transposed_rotation_is_refused_by_its_name(rig: Rig) -> None:
    """Of eyes that are hardly tilted too: rows differ by less than what is refused without a reason."""
    assert rig.right_from_left is not None
    rotation, translation = rig.right_from_left[:3, :3], rig.right_from_left[:3, 3]
    checks = check_calibration(changed(rig, rigid(rotation.T, translation)), *seen_pixels(rig))
    refusals = [check for check in checks if check.verdict == "refuse"]
    assert any("--rotation_convention matlab" in check.do for check in refusals)


@pytest.mark.parametrize("kind", RIGS)
def test_the_inverse_transform_is_named(kind: str) -> None:
    rig = RIGS[kind]
    assert rig.right_from_left is not None
    checks = check_calibration(changed(rig, invert_rigid(rig.right_from_left)), *seen_pixels(rig))
    assert any("invert them" in check.do for check in checks if check.verdict != "good")


def test_metres_are_noticed() -> None:
    rig = RIGS["parallel"]
    assert rig.right_from_left is not None
    metres = rigid(rig.right_from_left[:3, :3], rig.right_from_left[:3, 3] / 1000)
    warnings = [
        check for check in check_calibration(changed(rig, metres), *seen_pixels(rig)) if check.verdict == "warn"
    ]
    assert "mm" in warnings[0].do


def test_few_matches_give_no_verdict() -> None:
    left, right = seen_pixels(VERGED)
    assert verdicts(check_calibration(VERGED, left[-20:], right[-20:])) == {"unknown"}


@pytest.fixture(scope="module")
def good_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, _ = make_scene(tmp_path_factory.mktemp("good"), RIGS["parallel"], frames=2)
    return folder


def with_changes(good: Path, folder: Path, *, rig: Rig | None = None, swapped: bool = False) -> Path:
    """Return a scene like the good one with another calibration or its eyes exchanged."""
    scene = Scene.load(good)
    images = {key: str(good / file) for key, file in scene.images.items()}
    if swapped:
        images = {key: images[f"{'right' if key[0] == 'l' else 'left'}_{key.split('_')[1]}"] for key in images}
    folder.mkdir()
    (folder / "masks").symlink_to(good / "masks")
    replace(scene, folder=folder, images=images, rig=rig or scene.rig).save({})
    return folder


def test_the_stage_accepts_the_good_scene(good_scene: Path, tmp_path: Path) -> None:
    stage.run(MatchOptions(viz=False), out=tmp_path, scene=good_scene)
    assert {check["verdict"] for check in read_json(tmp_path / "checks.json")} == {"good"}


def test_the_stage_refuses_swapped_images(good_scene: Path, tmp_path: Path) -> None:
    scene = with_changes(good_scene, tmp_path / "scene", swapped=True)
    with pytest.raises(InputError, match="swapped") as caught:
        stage.run(MatchOptions(viz=False), out=tmp_path, scene=scene)
    assert "l/ and r/" in caught.value.do
    assert not (tmp_path / "1.npz").exists()


def test_the_stage_refuses_a_wrong_rotation_unless_told_to_go_on(
    good_scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = RIGS["parallel"]
    assert rig.right_from_left is not None
    tilted = rigid(turn((3.0, 0, 0)) @ rig.right_from_left[:3, :3], rig.right_from_left[:3, 3])
    scene = with_changes(good_scene, tmp_path / "scene", rig=changed(rig, tilted))
    with pytest.raises(InputError, match="does not fit") as caught:
        stage.run(MatchOptions(viz=False), out=tmp_path, scene=scene)
    assert "--allow_bad_calibration" in caught.value.do
    with caplog.at_level(logging.WARNING, logger="specula"):
        stage.run(MatchOptions(viz=False, allow_bad_calibration=True), out=tmp_path, scene=scene)
    assert (tmp_path / "1.npz").exists()
    assert "row difference" in caplog.text
