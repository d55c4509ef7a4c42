"""The prior stage: exact depth stays exact, test frames leak nowhere, contradictions show, both eyes, one eye."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from stereo_prior import prior as stage
from stereo_prior.prior import PriorOptions
from tests.synthetic import BALL_ON_WALL, Plane, Surface, parallel_rig, path, render, world_from
from utils.artifacts import load_maps, save_maps, write_npz
from utils.errors import InputError, NotApplicable
from utils.geometry import invert_rigid, project, rigid, transform
from utils.images import write_rgb
from utils.scene import Scene, load_poses, save_poses
from utils.sparse_points import training_points
from utils.types import FloatArray, Poses, Rig, Side
from utils.views import View, Views

NAMES = ("1", "2", "3", "4", "5")
TEST = ("3",)
TRAIN = tuple(name for name in NAMES if name not in TEST)
RIG = parallel_rig(96, 80)
RIGHT_FROM_LEFT = RIG.right_from_left
assert RIGHT_FROM_LEFT is not None
LEFT_FROM_RIGHT = invert_rigid(RIGHT_FROM_LEFT)
SIDES: tuple[Side, Side] = ("left", "right")
WALL = Plane((0.15, -0.1, 1.0), 82.0)


class Made:
    """A scene with exact stereo depth, poses and sparse points, as the stages before `prior` would leave it."""

    def __init__(self, root: Path, surface: Surface = BALL_ON_WALL, rig: Rig = RIG) -> None:
        self.root, self.rig = root, rig
        self.truth: dict[tuple[Side, str], FloatArray] = {}
        self.world_from_left = path(len(NAMES), travel_mm=5.0)
        images = {}
        for name, pose in zip(NAMES, self.world_from_left, strict=True):
            for side in rig.sides:
                view = render(surface, rig.camera(side), world_from(rig, side, pose))
                images[f"{side}_{name}"] = f"images/{side}_{name}.png"
                write_rgb(root / "scene" / images[f"{side}_{name}"], view.rgb)
                tissue = np.ones(view.depth_mm.shape, bool)
                tissue[:4] = False
                save_maps(root / "scene" / "masks", side, name, tissue=tissue, highlight=~np.ones_like(tissue))
                self.truth[side, name] = view.depth_mm
                if rig.stereo:
                    self.measure(side, name, view.depth_mm)
        Scene(root / "scene", rig, NAMES, TRAIN, TEST, tuple(rig.sides), images).save({})
        (root / "matches").mkdir()
        (root / "stereo").mkdir(exist_ok=True)
        self.place(self.world_from_left)

    def measure(self, side: Side, name: str, depth_mm: FloatArray, sigma_mm: float = 0.2) -> None:
        depth = depth_mm.astype(np.float32)
        save_maps(
            self.root / "stereo" / "sgbm",
            side,
            name,
            depth_mm=depth,
            sigma_mm=np.full_like(depth, sigma_mm),
            confidence=np.ones_like(depth),
        )

    def place(self, world_from_left: FloatArray, world_from_right: FloatArray | None = None) -> None:
        right = world_from_left @ LEFT_FROM_RIGHT if world_from_right is None else world_from_right
        save_poses(self.root / "poses", Poses(NAMES, world_from_left, right if self.rig.stereo else None, True))

    def scatter(self, count: int = 150, *, noise_px: float = 0.0, scale: float = 1.0) -> None:
        """Write points.npz: points of the first view's surface, seen by every view that shows them."""
        rng = np.random.default_rng(0)
        pixels = rng.uniform((2, 6), (93, 77), (count, 2))
        depth = self.truth["left", "1"][pixels[:, 1].round().astype(int), pixels[:, 0].round().astype(int)]
        rays = np.column_stack([(pixels.round() - [RIG.left.cx, RIG.left.cy]) / RIG.left.fx, np.ones(count)])
        points = transform(self.world_from_left[0], rays * depth[:, None])
        rows: list[tuple[int, int, int, float, float]] = []
        for frame in range(len(NAMES)):
            for number, side in enumerate(self.rig.sides):
                pose = world_from(self.rig, side, self.world_from_left[frame])
                seen, _ = project(self.rig.camera(side).matrix, transform(invert_rigid(pose), points))
                inside = ((seen >= 0) & (seen <= [95, 79])).all(axis=1)
                for point in np.flatnonzero(inside):
                    column, row = seen[point] + noise_px * rng.normal(size=2)
                    rows.append((int(point), frame, number, float(column), float(row)))
        table = np.array(rows)
        write_npz(
            self.root / "poses" / "points.npz",
            points_world=points * scale,
            point=table[:, 0].astype(int),
            frame=table[:, 1].astype(int),
            side=table[:, 2].astype(int),
            pixels=table[:, 3:],
        )

    def run(self, out: str = "prior", **options: Any) -> Path:
        folder = self.root / out
        folder.mkdir()
        inputs = {name: self.root / name for name in ("scene", "matches", "stereo", "poses")}
        self.summary = stage.run(PriorOptions(**options), out=folder, **inputs)
        return folder


def relative(made: Made, folder: Path, side: Side, name: str) -> FloatArray:
    return np.abs(load_maps(folder, side, name)["depth_mm"] / made.truth[side, name] - 1)


def test_exact_depth_stays_exact_in_every_view(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.scatter()
    folder = made.run()
    for side in SIDES:
        for name in NAMES:
            maps = load_maps(folder, side, name)
            expected = {"depth_mm", "sigma_mm", "error", "confidence", "tissue", "highlight", "importance"}
            assert set(maps) == expected
            tissue = maps["tissue"]
            assert np.isfinite(maps["depth_mm"])[tissue].all()
            assert np.isnan(maps["depth_mm"])[~tissue].all()
            off = relative(made, folder, side, name)[tissue]
            assert np.median(off) < 3e-4
            assert np.percentile(off, 95) < 4e-3
            known = np.isfinite(maps["error"])
            assert known[tissue].mean() > 0.9
            assert np.median(maps["error"][known]) < 1e-3
            for key in ("confidence", "importance"):
                assert maps[key].min() >= 0
                assert maps[key].max() <= 1
    with open(folder / "alignment.csv") as file:
        (row,) = csv.DictReader(file)
    assert row["source"] == "sgbm"
    assert row["applied"] == "False"
    assert float(row["scale"]) == pytest.approx(1, abs=2e-3)
    assert "fused views agree" in made.summary


def test_a_test_frame_enters_nothing_but_its_own_prior(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.scatter()
    before = made.run("before")
    for side in SIDES:
        made.measure(side, "3", 0.9 * made.truth[side, "3"], sigma_mm=0.01)
    with np.load(tmp_path / "poses" / "points.npz") as file:
        stored = dict(file)
    stored["pixels"][stored["frame"] == 2] += 7.0
    stored["points_world"] = stored["points_world"] * 1.5
    write_npz(tmp_path / "poses" / "points.npz", **stored)
    after = made.run("after")
    for side in SIDES:
        for name in TRAIN:
            first, second = load_maps(before, side, name), load_maps(after, side, name)
            for key in first:
                assert np.array_equal(first[key], second[key], equal_nan=first[key].dtype.kind == "f"), (name, key)
        changed = relative(made, after, side, "3") - relative(made, before, side, "3")
        assert np.nanmax(changed) > 0.005, "its own depth may, and is scored as `prior`"
    assert (before / "alignment.csv").read_text() == (after / "alignment.csv").read_text()


def test_left_only_priors_use_training_observations_only(tmp_path: Path) -> None:
    made = Made(tmp_path, WALL, RIG.left_only())
    made.scatter(noise_px=0.05)
    before = made.run("before")
    with np.load(tmp_path / "poses" / "points.npz") as file:
        stored = dict(file)
    stored["pixels"][stored["frame"] == 2] += 7.0
    write_npz(tmp_path / "poses" / "points.npz", **stored)
    after = made.run("after")
    for name in NAMES:
        first, second = load_maps(before, "left", name), load_maps(after, "left", name)
        assert all(np.array_equal(first[key], second[key], equal_nan=True) for key in ("depth_mm", "error"))
        off = relative(made, before, "left", name)[first["tissue"]]
        assert np.isfinite(off).all()
        assert np.median(off) < 0.005
        assert np.percentile(off, 99) < 0.05
    assert not (before / "right_1.npz").exists()


def test_without_fusion_a_view_keeps_its_own_measurement(tmp_path: Path) -> None:
    made = Made(tmp_path)
    wrong = 1.02 * made.truth["left", "2"]
    made.measure("left", "2", wrong)
    tissue = load_maps(tmp_path / "scene" / "masks", "left", "2")["tissue"]
    alone = load_maps(made.run("alone", no_fusion=True), "left", "2")["depth_mm"]
    np.testing.assert_allclose(alone[tissue], wrong[tissue], rtol=1e-5)
    fused = load_maps(made.run("fused"), "left", "2")["depth_mm"]
    assert np.median(np.abs(fused / wrong - 1)[tissue]) > 0.005, "the other views drew it towards the truth"


def test_what_other_views_see_through_is_carved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path)
    truth = made.truth["left", "2"]
    wide = cv2.erode(truth, np.ones((5, 5), np.uint8))
    wrong = truth > 1.04 * wide
    made.measure("left", "2", np.where(wrong, wide, truth))
    monkeypatch.setattr(stage, "_HELPERS", 0)  # fusion itself would mend a single view

    def error(called: str) -> float:
        depth_mm = load_maps(made.run(called), "left", "2")["depth_mm"]
        return float(np.nanmean(np.abs(depth_mm / truth - 1)[wrong]))

    carved = error("carved")
    monkeypatch.setattr(stage, "_CARVINGS", 0)
    assert carved < 0.3 * error("left alone")


def test_a_wrong_right_pose_shows_as_a_large_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Made(tmp_path)
    good = load_maps(made.run("good", topk=8), "right", "2")["error"]
    shifted = made.world_from_left @ LEFT_FROM_RIGHT @ rigid(np.eye(3), np.array([0.0, 2.0, 6.0]))
    made.place(made.world_from_left, shifted)
    with caplog.at_level("WARNING", "specula"):
        bad = load_maps(made.run("bad", topk=8), "right", "2")["error"]
    assert "agree on its depth" in caplog.text
    assert np.nanmedian(bad) > 10 * np.nanmedian(good)
    # the right eye's other three training views agree, the four left ones are 6 mm of about 83 off
    assert np.nanmedian(bad) == pytest.approx(4 / 7 * 6 / 83, rel=0.3)


def test_the_error_can_be_computed_again_from_what_was_written(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for side in SIDES:
        noise = np.random.default_rng(0).normal(0, 0.8, made.truth[side, "1"].shape)
        made.measure(side, "1", made.truth[side, "1"] + noise)
    folder = made.run()
    rows, columns = np.indices((80, 96))
    pose = made.world_from_left @ LEFT_FROM_RIGHT
    camera = RIG.camera("right")
    for name in ("1", "3"):
        here = load_maps(folder, "right", name)
        rays = np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, 1 + 0 * rows], -1)
        points = transform(pose[NAMES.index(name)], rays * here["depth_mm"][..., None])
        errors = []
        for other in ((side, frame) for side in SIDES for frame in TRAIN if (side, frame) != ("right", name)):
            index = NAMES.index(other[1])
            there = made.world_from_left[index] if other[0] == "left" else pose[index]
            pixels, z = project(RIG.camera(other[0]).matrix, transform(invert_rigid(there), points))
            stored = load_maps(folder, *other)["depth_mm"]
            at = (pixels[..., 1], pixels[..., 0])
            found = map_coordinates(stored, np.nan_to_num(at, nan=-9), order=1, mode="constant", cval=np.nan)
            errors.append(np.abs(found - z) / z)
        best = np.sort(np.stack(errors), axis=0)[:4]
        counted = np.isfinite(best).sum(axis=0)
        by_hand = np.where(counted > 0, np.nansum(best, axis=0) / np.maximum(counted, 1), np.nan)
        both = np.isfinite(by_hand) & np.isfinite(here["error"])
        assert both.mean() > 0.8
        assert np.percentile(np.abs(by_hand - here["error"])[both], 98) < 2e-4


@pytest.mark.parametrize(("scale", "verdict"), [(1.05, "warn"), (1.2, "refuse")])
def test_poses_of_another_scale_than_stereo(
    scale: float, verdict: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Made(tmp_path, WALL)
    made.scatter()
    poses = made.world_from_left.copy()
    poses[:, :3, 3] *= scale
    left_from_right = LEFT_FROM_RIGHT.copy()
    left_from_right[:3, 3] *= scale
    made.place(poses, poses @ left_from_right)
    if verdict == "refuse":
        with pytest.raises(InputError, match="contradict each other in scale"):
            made.run()
        return
    with caplog.at_level("WARNING", "specula"):
        made.run()
    assert "1.05" in caplog.text


def test_a_single_pair_needs_no_poses(tmp_path: Path) -> None:
    made = Made(tmp_path)
    (tmp_path / "poses" / "poses.npz").unlink()
    scene = Scene.load(tmp_path / "scene")
    images = {key: value for key, value in scene.images.items() if key.endswith("_1")}
    replace(scene, names=("1",), train=("1",), test=(), images=images).save({})
    folder = made.run()
    for side in SIDES:
        maps = load_maps(folder, side, "1")
        assert np.median(relative(made, folder, side, "1")[maps["tissue"]]) < 1e-3
        # the other eye of a training frame is another view
        assert np.nanmedian(maps["error"]) < 1e-3


def test_a_frame_that_could_not_be_placed_keeps_its_own_depth(tmp_path: Path) -> None:
    made = Made(tmp_path)
    poses = made.world_from_left.copy()
    poses[1] = np.nan
    made.place(poses)
    folder = made.run()
    off = relative(made, folder, "left", "2")[load_maps(folder, "left", "2")["tissue"]]
    assert np.median(off) < 1e-3


def test_nothing_to_start_from(tmp_path: Path) -> None:
    made = Made(tmp_path, WALL, RIG.left_only())
    with pytest.raises(NotApplicable, match="neither stereo depth nor a sparse cloud"):
        made.run()


@pytest.mark.parametrize("options", [{"topk": 0}, {"w_mask": -1.0}, {"w_grad": float("nan")}])
def test_options_without_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="topk"):
        stage.check(PriorOptions(**options))


def test_points_are_triangulated_from_training_views_and_bad_ones_dropped(tmp_path: Path) -> None:
    made = Made(tmp_path, WALL)
    made.scatter(60)
    with np.load(tmp_path / "poses" / "points.npz") as file:
        stored = dict(file)
    broken = (stored["point"] == 7) & (stored["frame"] == 0)
    stored["pixels"][broken] += 40.0
    write_npz(tmp_path / "poses" / "points.npz", **stored)
    views = Views(Scene.load(tmp_path / "scene"), load_poses(tmp_path / "poses"))
    found = training_points(views, tmp_path / "poses")
    assert found is not None
    truth = stored["points_world"]
    nearest = np.linalg.norm(found.points_world[:, None] - truth[None], axis=-1).min(axis=1)
    assert nearest.max() < 1e-3
    assert len(found.points_world) == 59
    assert View("left", "3") not in found.views
