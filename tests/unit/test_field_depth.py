"""Dense depth of an earlier run's field: what is believed of it, what is refused, what is learned."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monocular import depth as stage
from monocular import small_training
from monocular.depth_source import MonocularOptions, Task
from monocular.field_depth import check_field, dense_views
from tests.synthetic import BALL_ON_WALL, parallel_rig, path, render, verged_rig, world_from
from utils.artifacts import read_json, save_maps, write_json, write_npz
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.images import write_rgb
from utils.scene import Scene, load_poses, save_poses
from utils.stages import STAMP, stage_record
from utils.types import FloatArray, Poses, Rig
from utils.views import View, Views

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES, TRAIN, TEST = ("1", "2", "3", "4"), ("1", "3", "4"), ("2",)
BORDER_PX = 6  # of every image is no tissue


class FirstRun:
    """A finished run whose field shows the truth, and the scene of a second run of the same dataset."""

    def __init__(self, root: Path, rig: Rig) -> None:
        self.rig, self.logs, self.second = rig, root / "first", root / "second"
        poses = path(len(NAMES), travel_mm=5.0)
        self.poses = Poses(NAMES, poses, np.stack([world_from(rig, "right", pose) for pose in poses]), True)
        save_poses(self.logs / "poses", self.poses)
        self.truth: dict[View, FloatArray] = {}
        self.middle: dict[str, FloatArray] = {}
        images = {}
        for name, pose in zip(NAMES, poses, strict=True):
            for side in rig.sides:
                seen = render(BALL_ON_WALL, rig.camera(side), world_from(rig, side, pose))
                self.truth[View(side, name)] = seen.depth_mm
                images[f"{side}_{name}"] = f"images/{side}_{name}.png"
                write_rgb(self.logs / "scene" / images[f"{side}_{name}"], seen.rgb)
                tissue = np.zeros(seen.depth_mm.shape, bool)
                tissue[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = True
                save_maps(self.logs / "scene" / "masks", side, name, tissue=tissue, highlight=~tissue)
                self.show(View(side, name), seen.depth_mm)
            camera, left_from_middle = rig.middle
            between = render(BALL_ON_WALL, camera, pose @ left_from_middle)
            self.middle[name] = between.depth_mm
            if name in TRAIN:
                maps: dict[str, Any] = {"rgb": between.rgb, "depth_mm": between.depth_mm}
                opacity = np.ones_like(between.depth_mm)
                write_npz(self.logs / "render" / "middle" / f"{name}.npz", **maps, opacity=opacity)
        scene = Scene(self.logs / "scene", rig, NAMES, TRAIN, TEST, rig.sides, images)
        scene.save({"hashes": {key: f"content of {key}" for key in images}})
        self.stamp("scene")
        self.stamp("poses", scene="scene made")
        self.stamp("render", scene="scene made", poses="poses made")
        shutil.copytree(self.logs / "scene", self.second / "scene")

    def stamp(self, name: str, skipped: str | None = None, **inputs: str) -> None:
        write_json(self.logs / name / STAMP, {"hash": f"{name} made", "inputs": inputs, "skipped": skipped})

    def show(self, view: View, depth_mm: FloatArray) -> None:
        depth = depth_mm.astype(np.float32)
        save_maps(self.logs / "render", view.side, view.name, depth_mm=depth, opacity=np.ones_like(depth))

    def task(self, **words: Any) -> Task:
        options = MonocularOptions(ns_path=str(self.logs), ns_loss_weight=1.0, device="cpu", **words)
        views = Views(Scene.load(self.second / "scene"), load_poses(self.logs / "poses"))
        work = self.second / "monocular.partial"
        return Task(options, views, self.second / "matches", self.logs / "poses", work)


@pytest.fixture(params=[parallel_rig(96, 80), verged_rig(96, 80)], ids=["parallel", "verged"])
def first(request: pytest.FixtureRequest, tmp_path: Path) -> FirstRun:
    return FirstRun(tmp_path, request.param)


@pytest.mark.parametrize("rig", [parallel_rig(), verged_rig()], ids=["parallel", "verged"])
def test_the_middle_camera_stands_and_looks_half_way(rig: Rig) -> None:
    camera, left_from_middle = rig.middle
    left_from_right = rig.left_from("right")
    assert left_from_middle[:3, 3] == pytest.approx(left_from_right[:3, 3] / 2)
    half = left_from_middle[:3, :3]
    assert half @ half == pytest.approx(left_from_right[:3, :3], abs=1e-12)
    assert half.T @ half == pytest.approx(np.eye(3), abs=1e-12)
    assert rig.right is not None
    assert camera.cx == pytest.approx((rig.left.cx + rig.right.cx) / 2)
    assert (camera.width, camera.height) == (rig.left.width, rig.left.height)


def test_training_images_and_middle_views_get_the_depth_of_the_field(first: FirstRun) -> None:
    found = dense_views(first.task())
    assert len(found) == 3 * len(TRAIN)
    truths = [first.truth[View(side, name)] for name in TRAIN for side in first.rig.sides]
    truths += [first.middle[name] for name in TRAIN]
    for one, truth in zip(found, truths, strict=True):
        columns, rows = one.depth.pixels.astype(int).T
        assert one.depth.depth_mm == pytest.approx(truth[rows, columns], rel=1e-4)
        assert one.image.shape == (*truth.shape, 3)
    for one in found[: 2 * len(TRAIN)]:
        assert one.depth.pixels.min() >= BORDER_PX, "outside the tissue nothing is learned"


def test_depth_that_no_other_view_confirms_is_left_out(first: FirstRun) -> None:
    wrong = View("right", "3")
    first.show(wrong, 1.05 * first.truth[wrong])
    found = dense_views(first.task())
    assert len(found) == 3 * len(TRAIN) - 1
    shown = render(BALL_ON_WALL, first.rig.camera("right"), first.poses.world_from("right", "3")).rgb
    assert not any(np.array_equal(one.image, shown) for one in found)


def test_a_field_whose_views_contradict_each_other_is_refused(first: FirstRun) -> None:
    for number, (view, depth_mm) in enumerate(first.truth.items()):
        first.show(view, (1 + 0.07 * number) * depth_mm)
    shutil.rmtree(first.logs / "render" / "middle")
    with pytest.raises(InputError, match="no depth to learn from"):
        dense_views(first.task())


def test_a_run_without_middle_views_says_so_and_gives_the_eyes(
    first: FirstRun, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(first.logs / "render" / "middle")
    assert len(dense_views(first.task())) == 2 * len(TRAIN)
    assert "--render_middle" in caplog.text


def _changed(folder: Path, key: str, value: Any) -> None:
    record = read_json(folder / "frames.json")
    write_json(folder / "frames.json", record | {key: value})


@pytest.mark.parametrize("what", ["leak", "images", "names", "itself"])
def test_a_run_that_does_not_fit_is_refused(what: str, first: FirstRun) -> None:
    task = first.task()
    words = {"leak": "would be no test", "images": "other images", "names": "other images", "itself": "own folder"}
    if what == "leak":
        _changed(first.second / "scene", "test", ["2", "3"])
        task = first.task()
    elif what == "images":
        hashes = read_json(first.logs / "scene" / "frames.json")["hashes"]
        _changed(first.second / "scene", "hashes", hashes | {"left_1": "another"})
    elif what == "names":
        _changed(first.logs / "scene", "names", [*NAMES, "5"])
    else:
        task = replace(task, work=first.logs / "monocular.partial")
    with pytest.raises(InputError, match=words[what]):
        dense_views(task)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"ns_loss_weight": 1.0}, "need each other"),
        ({"ns_path": "logs/first"}, "need each other"),
        ({"ns_path": "logs/first", "ns_loss_weight": -1.0}, "--ns_loss_weight -1"),
        ({"ns_path": "logs/first", "ns_loss_weight": float("nan")}, "--ns_loss_weight nan"),
        ({"ns_path": "nowhere", "ns_loss_weight": 1.0}, "no finished run"),
        ({"ns_path": "nowhere", "ns_loss_weight": 1.0, "monocular": "files"}, "small network"),
    ],
)
def test_flags_that_make_no_sense_are_refused_before_anything_runs(words: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_field(MonocularOptions(**words))


def test_a_run_whose_render_was_skipped_is_refused(first: FirstRun) -> None:
    stage.check(first.task().options)
    first.stamp("render", "no field to render")
    with pytest.raises(InputError, match="render was skipped"):
        stage.check(first.task().options)


@pytest.mark.parametrize("stage_name", ["scene", "poses"])
def test_renders_of_another_split_or_other_poses_are_refused(stage_name: str, first: FirstRun) -> None:
    stamp = read_json(first.logs / stage_name / STAMP)
    write_json(first.logs / stage_name / STAMP, stamp | {"hash": "made again"})
    with pytest.raises(InputError, match="do not belong together"):
        stage.check(first.task().options)


def test_a_run_that_is_gone_is_said_even_where_nothing_is_checked(first: FirstRun) -> None:
    options = first.task().options
    shutil.rmtree(first.logs)
    with pytest.raises(InputError, match="no finished run"):
        stage_record(stage.STAGE, options, {})


def test_middle_views_that_disagree_are_not_called_missing(
    first: FirstRun, caplog: pytest.LogCaptureFixture
) -> None:
    for name, depth_mm in first.middle.items():
        file = first.logs / "render" / "middle" / f"{name}.npz"
        if file.exists():
            write_npz(file, rgb=np.load(file)["rgb"], depth_mm=1.06 * depth_mm, opacity=np.ones_like(depth_mm))
    assert len(dense_views(first.task())) == 2 * len(TRAIN)
    assert "agrees with those of the eyes" in caplog.text
    assert "--render_middle" not in caplog.text


def test_two_eyes_train_the_network_where_a_field_is_given(first: FirstRun) -> None:
    assert stage.chosen_source(first.task().options, Scene.load(first.second / "scene")) == "small"


def test_the_network_learns_what_only_the_field_knows(tmp_path: Path) -> None:
    task = FirstRun(tmp_path, parallel_rig(96, 80)).task(monocular_iters=60)
    novel = [small_training.Example.of(v.image, v.depth, (64, 64), torch.device("cpu")) for v in dense_views(task)]
    left_third = [replace(one, **_left_of(one)) for one in novel]
    losses = {}
    for called, given in (("sparse", ()), ("with the field", novel)):
        (tmp_path / called).mkdir()
        options = replace(task.options, ns_loss_weight=3.0)
        network = small_training.train(left_third, options, tmp_path / called, given)
        with torch.no_grad():
            losses[called] = float(small_training.batch_loss(network, novel))
    assert losses["with the field"] < 0.95 * losses["sparse"]


def _left_of(example: small_training.Example) -> dict[str, torch.Tensor]:
    """Return the points of the left third of an image alone."""
    left = example.places[:, 0] < -0.33
    return {"places": example.places[left], "log_inverse": example.log_inverse[left]}


def test_right_from_the_middle_is_left_from_the_middle_mirrored() -> None:
    rig = verged_rig()
    _, left_from_middle = rig.middle
    right_from_middle = invert_rigid(rig.left_from("right")) @ left_from_middle
    distance = [np.linalg.norm(invert_rigid(one)[:3, 3]) for one in (left_from_middle, right_from_middle)]
    assert distance[0] == pytest.approx(distance[1])
    assert left_from_middle[2, 2] == pytest.approx(right_from_middle[2, 2]), "both eyes turn by as much"


def test_the_own_folder_is_refused_before_anything_runs(first: FirstRun) -> None:
    options = replace(first.task().options, basedir=str(first.logs.parent), expname=first.logs.name)
    with pytest.raises(InputError, match="own folder"):
        stage.check(options)
