"""Views beyond what was seen: real pixels carried, unseen ones marked, what is generated never measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nerf.finished_field import FinishedField
from nerf.images import RenderedImage
from novel_view.carrying import carry, gone_on, merged
from novel_view.completion import GENERATED, REAL, RENDERED, Sampling, complete, known_depth
from novel_view.gaussian_prior import GaussianPrior
from novel_view.imagination import Model, Warp, imagination
from novel_view.page import Shown, compose, difference, overlay
from novel_view.targets import Target, conditions_of, fitted, look
from novel_view.views import Request, main, show_views
from novel_view.wanted import ASIDE, wanted_poses
from tests.measured import make_run
from tests.synthetic import Nearest, Plane, Sphere, Surface, parallel_rig, render, turn
from utils.artifacts import load_maps
from utils.errors import InputError
from utils.geometry import directions, rigid
from utils.scene import Scene, load_poses
from utils.types import Camera, FloatArray
from utils.visibility import DepthView

RIG = parallel_rig(64, 48).left_only()
WALL = Plane((0.0, 0.0, 1.0), 80.0)
BALL = Sphere((-8.0, 0.0, 40.0), 6.0)
POSES = np.stack([rigid(turn((0, y, 0)), np.array([x, 0.0, 0.0])) for x, y in ((-6, 2), (0, 0), (4, -1))])


@dataclass(frozen=True, eq=False)
class Exact(FinishedField):
    """A field that shows a synthetic surface exactly, beyond what any view of the run has seen too."""

    surface: Surface = WALL

    def render(self, camera: Camera, world_from_camera: FloatArray, **_: Any) -> RenderedImage:  # type: ignore[override]
        """Render the surface."""
        view = render(self.surface, camera, world_from_camera)
        opacity = np.isfinite(view.depth_mm).astype(np.float32)
        depth = view.depth_mm.astype(np.float32)
        return RenderedImage(view.rgb, depth, depth, np.zeros_like(depth), opacity)


def field_of(folder: Path, surface: Surface = WALL) -> Exact:
    run = make_run(folder, surface, RIG, POSES)
    scene, placed = Scene.load(run / "scene"), load_poses(run / "poses")
    views = [("left", name) for name in scene.names]
    depths = {view: load_maps(run / "render", *view)["depth_mm"] for view in views}  # type: ignore[arg-type]
    seen = [DepthView(RIG.left, placed.world_from(*view), depths[view]) for view in views]  # type: ignore[arg-type]
    guide, model = SimpleNamespace(depth_mm=depths), SimpleNamespace(lamp_left=torch.zeros(3))
    return Exact(scene, placed, model, (guide, guide), seen, surface=surface)  # type: ignore[arg-type]


@pytest.fixture
def field(tmp_path: Path) -> Exact:
    return field_of(tmp_path / "run")


BESIDE = rigid(turn((0, 12, 0)), np.array([14.0, 0.0, 0.0]))


def target_of(field: FinishedField, pose: FloatArray = BESIDE) -> Target:
    return look(field, "beside", RIG.left, pose)


def test_real_pixels_land_where_the_target_sees_them(field: Exact) -> None:
    target = target_of(field)
    assert 0.3 < target.seen.mean() < 0.9
    for condition in conditions_of(field, target):
        carried = carry(field, target, condition)
        assert carried.seen.mean() > 0.3
        assert not (carried.seen & ~target.seen).any()
        off = np.abs(255 * carried.rgb - target.rgb)[carried.seen]
        assert np.median(off) < 6, "the waves of the texture are hardly wider than a pixel"
        assert off.mean() < 0.25 * target.rgb[carried.seen].std()


def test_what_stands_before_the_surface_is_not_carried_on_to_it(tmp_path: Path) -> None:
    field = field_of(tmp_path / "run", Nearest((WALL, BALL)))
    target = target_of(field, POSES[2])
    one = next(found for found in conditions_of(field, target) if found.view[1] == "1")
    carried = carry(field, target, one)
    rays = directions(RIG.left.matrix, np.stack(np.meshgrid(np.arange(64.0), np.arange(48.0)), -1))
    points = rays @ POSES[2][:3, :3].T * target.surface.depth_mm[..., None] + POSES[2][:3, 3]
    way = points - POSES[0][:3, 3]
    ahead = np.clip(((np.array(BALL.centre_world) - POSES[0][:3, 3]) * way).sum(-1) / (way**2).sum(-1), 0, 1)
    gap = np.linalg.norm(POSES[0][:3, 3] + ahead[..., None] * way - np.array(BALL.centre_world), axis=-1)
    hidden = (gap < BALL.radius_mm - 1.0) & (target.surface.depth_mm > 70)
    assert hidden.sum() > 20
    assert not carried.seen[hidden].any()


def test_the_best_views_come_first_and_carry_what_they_see(field: Exact) -> None:
    target = target_of(field)
    chosen = conditions_of(field, target)
    assert [one.view[1] for one in chosen] == ["3", "2", "1"]
    assert chosen[0].share > chosen[1].share > chosen[2].share
    rgb, there = merged([carry(field, target, one) for one in chosen], target)
    first = carry(field, target, chosen[0])
    np.testing.assert_array_equal(rgb[first.seen], first.rgb[first.seen])
    assert (rgb[~there] == 0).all()


def test_a_continuation_keeps_what_is_known_and_goes_no_further_than_its_colours() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.uniform(0.2, 0.7, (31, 45, 3)).astype(np.float32)
    known = np.zeros((31, 45), bool)
    known[:, :20] = True
    filled = gone_on(rgb, known)
    np.testing.assert_array_equal(filled[known], rgb[known])
    assert rgb[known].min() <= filled.min()
    assert filled.max() <= rgb[known].max()
    assert filled[:, 30:].std() < 0.5 * rgb[known].std(), "it is smooth"
    flat = np.full_like(rgb, 0.25)
    np.testing.assert_allclose(gone_on(flat, known), flat, atol=1e-6)
    assert (gone_on(flat, np.zeros_like(known)) == 0).all()


@pytest.mark.parametrize("keep", ["render", "real"])
def test_seen_pixels_are_kept_and_every_pixel_says_what_it_is(field: Exact, keep: str) -> None:
    target = target_of(field)
    done = complete(field, target, conditions_of(field, target), Warp(), Sampling(steps=10, keep=keep))
    assert set(np.unique(done.provenance)) <= {REAL, RENDERED, GENERATED}
    assert ((done.provenance == GENERATED) == ~target.seen).all()
    assert ((done.provenance == REAL).sum() > 0) == (keep == "real")
    off = np.abs(done.rgb.astype(int) - target.rgb)
    assert (off[done.provenance == RENDERED] == 0).all()
    assert np.median(off[target.seen]) <= 3
    depth = known_depth(target.surface.depth_mm, done.provenance)
    assert np.isnan(depth[~target.seen]).all()
    np.testing.assert_array_equal(depth[target.seen], target.surface.depth_mm[target.seen])


def test_the_same_seed_repeats_and_the_unseen_part_looks_like_the_tissue(field: Exact) -> None:
    target = target_of(field)
    chosen = conditions_of(field, target)
    one, same, other = (complete(field, target, chosen, Warp(), Sampling(seed=seed)).rgb for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other)[~target.seen].mean() > 0.5
    np.testing.assert_array_equal(one[target.seen], other[target.seen])
    tissue, made = one[target.seen].mean(0), one[~target.seen].mean(0)
    assert np.abs(tissue - made).max() < 20


def test_the_spread_of_the_prior_is_small_where_seen_and_large_where_not(field: Exact) -> None:
    target = target_of(field)
    prior, conditions = Warp().about(field, target, conditions_of(field, target))
    assert isinstance(prior, GaussianPrior)
    seen = torch.from_numpy(target.seen)
    weights = conditions.weights
    spread = (weights * prior.stds).sum(0)
    assert spread[:, seen].mean() < 0.6 * spread[:, ~seen].mean()
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))


def test_a_model_gets_images_of_its_size_and_its_known_part(field: Exact) -> None:
    asked: list[Any] = []

    class Square(GaussianPrior):
        def predict_noise(self, condition_images: Any, *rest: Any) -> Any:
            asked.append(condition_images.shape)
            return super().predict_noise(condition_images, *rest)

    prior = Square(torch.zeros(3, 3, 32, 32), torch.full((3, 1, 32, 32), 0.1))
    model = Model("square", prior)
    camera, _ = fitted(RIG.left, *model.size(RIG.left))
    target = look(field, "x", camera, BESIDE)
    done = complete(field, target, conditions_of(field, target), model, Sampling(steps=4))
    assert asked == [(3, 3, 32, 32)] * 4
    assert done.rgb.shape == (32, 32, 3)
    np.testing.assert_array_equal(done.rgb[target.seen], target.rgb[target.seen])
    assert abs(float(done.rgb[~target.seen].mean()) - 127.5) < 10, "the model's mean is grey"


@pytest.mark.parametrize("size", [(32, 32), (24, 60), (96, 128)])
def test_a_cropped_camera_sees_the_cropped_image(size: tuple[int, int]) -> None:
    camera, (rows, columns) = fitted(RIG.left, *size)
    assert (camera.height, camera.width) == size
    corner = np.array([columns.start - 0.5, rows.start - 0.5])
    of_whole = directions(RIG.left.matrix, corner)
    of_crop = directions(camera.matrix, np.array([-0.5, -0.5]))
    np.testing.assert_allclose(of_crop, of_whole, atol=1e-12)
    assert columns.stop <= 64
    assert rows.stop <= 48


def test_a_pose_that_sees_nothing_is_refused(field: Exact) -> None:
    with pytest.raises(InputError, match="pose beside sees nothing of the reconstruction"):
        target_of(field, rigid(turn((0, 170, 0)), np.zeros(3)))


def test_a_prior_without_weights_is_a_clear_error(field: Exact, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        imagination(str(tmp_path / "weights"), field, 3.0, "cpu")
    assert "weights" in str(caught.value)


def test_wanted_poses_lie_beyond_the_path(field: Exact, tmp_path: Path) -> None:
    names, poses = wanted_poses("beyond", field)
    assert names == ["right", "left", "down", "up", "turned right", "turned left"]
    start = POSES[1]
    np.testing.assert_allclose(poses[0][:3, 3] - start[:3, 3], [ASIDE * 80.0, 0, 0], atol=0.5)
    assert poses[4][0, 2] > 0.3, "it looks to the right"
    np.savez(tmp_path / "list.npz", names=np.array(["a/b"]), world_from_camera=start[None])
    names, poses = wanted_poses(str(tmp_path / "list.npz"), field)
    assert (names, poses.shape) == (["a/b"], (1, 4, 4))


def test_the_page_is_whole_and_escapes_what_comes_from_files() -> None:
    rgb = np.full((8, 10, 3), 90, np.uint8)
    kinds = np.tile(np.array([[0, 1, 2, 3, 3]], np.uint8), (8, 2))
    tinted = overlay(rgb, kinds)
    assert (tinted[kinds == RENDERED] == 90).all()
    assert (tinted[kinds == 0] == 0).all()
    assert (tinted[kinds == GENERATED] != 90).any()
    assert (difference(rgb, rgb) <= 5).all()
    record = {"run": "<b>run", "prior": "warp", "keep": "real", "sds": None}
    html = compose(record, [Shown("<script>", "half seen", {"render": rgb, "sample": rgb})])
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("data:image/webp") == 2
    assert "http" not in html.replace("http-equiv", "")


@pytest.mark.parametrize(
    "words", [["--steps", "0"], ["--eta", "2"], ["--sds", "0"], ["--sds_levels", "0.9", "0.1"]]
)
def test_senseless_numbers_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs/none", *words]) == 2
    assert "correct the" in capsys.readouterr().err


def test_a_folder_of_others_and_a_stage_are_not_replaced(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", WALL, RIG, POSES)
    trajectory = tmp_path / "trajectories" / "spiral"
    trajectory.mkdir(parents=True)
    (trajectory / "views.json").write_text("{}")
    for out in (run / "render", run / "nerf" / "new", tmp_path, trajectory):
        with pytest.raises(InputError, match="is not a folder of novel views"):
            show_views(run, Request("beyond", "warp", Sampling(), out=out))
    with pytest.raises(InputError, match="no such file"):
        show_views(run, Request(str(tmp_path / "none.npz"), "warp", Sampling()))
