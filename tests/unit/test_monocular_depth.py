"""Monocular depth: the loss by hand, training, alignment among outliers, filling, files that do not fit."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monocular import depth as stage
from monocular import pretrained, small_training
from monocular.depth_files import check_files, prepare_files, read_relative
from monocular.depth_source import MonocularOptions, Task
from monocular.small_network import SmallDepthNetwork, read_at, scale_free_loss, working_size
from stereo_prior.filling import fill_by_shape
from stereo_prior.fusion import DepthMap, Fused, fill_holes
from stereo_prior.relative_fit import Fit, fit_relative, shift_needed, steadied
from tests.synthetic import Plane, parallel_rig, render, world_from
from utils.errors import InputError, NotApplicable
from utils.images import write_rgb
from utils.map_header import image_size
from utils.relative_maps import load_relative, save_relative
from utils.scene import Scene
from utils.sparse_depth import SparseDepth, cleaned
from utils.views import View, Views

pytestmark = pytest.mark.usefixtures("one_thread")

RIG = parallel_rig(96, 80)
CPU = torch.device("cpu")


def test_the_loss_by_hand() -> None:
    predicted, given = torch.tensor([1.0, 2.0, 4.0]).log(), torch.tensor([1.0, 1.0, 4.0]).log()
    # log p - log g: 0, log 2, 0; a = -log 2 / 3; so log 2 * (1/3 + 2/3 + 1/3) / 3
    assert float(scale_free_loss(predicted, given)) == pytest.approx(np.log(2) * 4 / 9)


def test_a_perfect_inverse_depth_costs_nothing_at_any_scale_and_depth_in_its_place_does() -> None:
    depth = torch.linspace(50.0, 120.0, 40)
    inverse = 1.0 / depth
    assert float(scale_free_loss((7.0 * inverse).log(), inverse.log())) == pytest.approx(0.0, abs=1e-6)
    assert float(scale_free_loss(depth.log(), inverse.log())) > 0.2


def test_a_map_is_read_where_pixels_are() -> None:
    columns = torch.arange(8.0).expand(6, 8)  # a map of the image's own size holds its columns
    places = torch.tensor([[(2 * 3 + 1) / 8 - 1, 0.0], [(2 * 5 + 1) / 8 - 1, 0.5]])
    assert read_at(columns, places).tolist() == pytest.approx([3.0, 5.0], abs=1e-5)


def test_images_are_looked_at_in_sides_that_can_be_halved() -> None:
    assert working_size(320, 256) == (192, 160)
    assert working_size(526, 488) == (192, 192)
    assert working_size(2000, 100) == (192, 32)


def plane_example(seed: int, size: tuple[int, int] = (48, 64)) -> small_training.Example:
    """Return an image of a tilted plane lit from the camera, with its depth at sixty pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    slope = rng.uniform(-1, 1, 2)
    inverse = 0.02 + 0.006 * (slope[0] * columns / size[1] + slope[1] * rows / size[0])
    grey = 255 * np.clip((inverse / 0.03) ** 2 * rng.uniform(0.97, 1.0, size), 0, 1)
    pixels = rng.integers(0, size[::-1], (60, 2)).astype(float)
    depth = 1.0 / inverse[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]
    image = np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)
    return small_training.Example.of(image, SparseDepth(pixels, depth, np.ones(60, bool)), (64, 64), CPU)


def test_training_learns_the_slope_of_planes_from_their_shading(tmp_path: Path) -> None:
    examples, unseen = [plane_example(seed) for seed in range(6)], [plane_example(99)]

    def loss(network: SmallDepthNetwork) -> float:
        with torch.no_grad():
            return float(small_training.batch_loss(network, unseen))

    torch.manual_seed(0)
    before = loss(SmallDepthNetwork())
    options = MonocularOptions(monocular_iters=40, monocular_lrate=4e-3)
    assert loss(small_training.train(examples, options, tmp_path)) < 0.5 * before
    assert (tmp_path / "small.safetensors").exists()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_stopped_training_goes_on_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_training, "_SAVE_EVERY", 2)
    examples, options = [plane_example(seed) for seed in range(3)], MonocularOptions(monocular_iters=5)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    small_training.train(examples, options, whole)
    calls = []

    def failing(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return batch_loss(*arguments)

    batch_loss = small_training.batch_loss
    monkeypatch.setattr(small_training, "batch_loss", failing)
    with pytest.raises(KeyboardInterrupt):
        small_training.train(examples, options, stopped)
    small_training.train(examples, options, stopped)
    assert len(calls) == 4 + 3, "it went on after step 2"
    weights = [(folder / "small.safetensors").read_bytes() for folder in (whole, stopped)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("factor", [float("nan"), 1e38])
def test_a_diverged_training_says_where_and_keeps_nothing(
    factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_loss, calls = small_training.batch_loss, []

    def failing(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return batch_loss(*arguments) * (factor if len(calls) == 3 else 1.0)

    monkeypatch.setattr(small_training, "batch_loss", failing)
    with pytest.raises(InputError, match="diverged at step 2") as refused:
        small_training.train([plane_example(0)], MonocularOptions(monocular_iters=5), tmp_path)
    assert "--monocular_lrate" in str(refused.value)
    assert not (tmp_path / "small.safetensors").exists()


def samples(count: int = 200, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Relative and true inverse depth, 2.5e-3 * r + 4e-3, three in ten wrong."""
    rng = np.random.default_rng(seed)
    relative = rng.uniform(1.0, 6.0, count)
    inverse = (2.5e-3 * relative + 4e-3) * rng.normal(1.0, 0.005, count)
    wrong = rng.random(count) < 0.3
    return relative, np.where(wrong, rng.uniform(2e-3, 4e-2, count), inverse)


def test_alignment_finds_scale_and_shift_among_thirty_percent_outliers() -> None:
    found = fit_relative(*samples(), with_shift=True)
    assert found is not None
    assert found.scale == pytest.approx(2.5e-3, rel=0.01)
    assert found.shift == pytest.approx(4e-3, rel=0.02)
    assert found.spread < 0.02
    assert 0.6 < found.inliers / found.n_points < 0.8
    assert shift_needed([samples(seed=seed) for seed in range(4)])


def test_a_map_without_shift_gets_none() -> None:
    relative = np.random.default_rng(0).uniform(1.0, 3.0, 100)
    inverse = 8e-3 * relative * np.random.default_rng(1).normal(1.0, 0.02, 100)
    assert not shift_needed([(relative, inverse)] * 3)
    found = fit_relative(relative, inverse, with_shift=False)
    assert found is not None
    assert found.scale == pytest.approx(8e-3, rel=0.01)
    assert found.shift == 0.0


@pytest.mark.parametrize("what", ["noise", "far for near", "few"])
def test_a_map_that_fits_no_points_is_left_out(what: str) -> None:
    rng = np.random.default_rng(0)
    relative = rng.uniform(1.0, 6.0, 100)
    inverse = {"noise": rng.uniform(1e-3, 1e-1, 100), "far for near": 1e-2 / relative**3, "few": 1e-2 * relative}
    count = 5 if what == "few" else 100
    for with_shift in (False, True):
        assert fit_relative(relative[:count], inverse[what][:count], with_shift=with_shift) is None


@pytest.mark.parametrize("around", [[1.0, 1.02, 0.98, 1.0], [4.0] * 4, [1.0, 4.0, 2.0, 9.0]])
def test_a_good_fit_stays_whatever_the_unit_of_the_images_around(around: list[float]) -> None:
    relative = np.linspace(1.0, 2.0, 30)
    for shift in (0.0, 0.5):
        fit = fit_relative(relative, 2.0 * relative + shift, with_shift=shift > 0)
        assert fit is not None
        assert fit.inliers == 30
        found = steadied(fit, relative, 2.0 * relative + shift, around)
        assert found.scale == pytest.approx(2.0, rel=0.01 if shift else 0.003 / np.sqrt(30) + 1e-6)
        assert found.inliers == 30
        assert found.spread < 1.5 * fit.spread


def test_a_scale_of_few_noisy_points_leans_on_views_around_that_agree() -> None:
    relative = np.linspace(1.0, 2.0, 400)
    few, many = Fit(2.0, 0.0, 0.1, 10, 10), Fit(2.0, 0.0, 0.1, 400, 400)

    def scale(fit: Fit, around: list[float]) -> float:
        return steadied(fit, relative[: fit.n_points], 2.0 * relative[: fit.n_points], around).scale

    # 15 / (10 + 15) of the way to 1.96 is less than 0.1 / sqrt(10), all of the way to 1.5 is more
    assert scale(few, [1.96, 1.96, 1.96]) == pytest.approx(2.0 * 0.98**0.6)
    assert scale(few, [1.5, 1.5, 1.5]) == pytest.approx(2.0 * np.exp(-0.1 / np.sqrt(10)))
    assert 1.998 < scale(many, [1.96, 1.96, 1.96]) < 2.0
    assert scale(few, [1.0, 1.0, 9.0]) == 2.0, "they disagree"
    assert scale(few, [1.9]) == scale(few, []) == 2.0, "nothing shows whether they agree"


def test_a_fit_to_many_points_takes_memory_in_proportion() -> None:
    relative = np.random.default_rng(0).uniform(1.0, 3.0, 4000)
    inverse = 8e-3 * relative * np.random.default_rng(1).normal(1.0, 0.02, 4000)
    tracemalloc.start()
    found = fit_relative(relative, inverse, with_shift=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6  # a table of all pairs of points is 128 MB
    assert found is not None
    assert found.scale == pytest.approx(8e-3, rel=0.002)


def test_noise_and_what_the_surface_hides_are_dropped_and_counted() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 90, (300, 2))
    depth = 1.0 / (0.01 + 3e-5 * pixels[:, 0])
    observed = np.ones(300, bool)
    depth[:9] *= 0.6  # nearer than the surface: wrong matches
    depth[9:18] *= 1.12  # behind it, and seen by other views alone
    observed[9:18] = False
    kept, counts = cleaned(SparseDepth(pixels, depth, observed))
    assert (counts.before, counts.noisy, counts.occluded) == (300, 9, 9)
    assert len(kept) == 282
    assert str(counts) == "282 of 300 points kept, 9 noisy, 9 occluded"


def test_holes_follow_the_shape_and_meet_what_was_measured() -> None:
    columns = np.indices((40, 60))[1]
    truth = (80.0 + 0.3 * columns).astype(np.float32)
    measured = np.where(columns < 30, truth, np.nan).astype(np.float32)
    fused = Fused(measured, 0.01 * measured, np.ones_like(truth))
    shape = DepthMap(1.05 * truth, 0.05 * truth)
    tissue = np.ones(truth.shape, bool)
    depth, filled = fill_by_shape(fused, shape, tissue)
    assert np.array_equal(filled, columns >= 30)
    assert np.array_equal(depth.depth_mm[:, :30], measured[:, :30])
    off = depth.depth_mm / truth - 1
    without = fill_holes(fused, tissue)[0].depth_mm
    assert np.array_equal(depth.depth_mm[:, :33], without[:, :33]), "small holes are filled as without a shape"
    assert np.isnan(without[:, 34:]).all()
    # two columns on, the correction has fallen to exp(-(2 / 60) / 0.1)
    assert np.abs(off[:, 34]).max() < 0.02, "beside what is known the shape is brought to it"
    assert 0.04 < off[:, 58].mean() < 0.055, "far from it, it stands as it is"
    assert depth.sigma_mm[20, 34] < depth.sigma_mm[20, 58]
    assert depth.sigma_mm[20, 58] / depth.depth_mm[20, 58] == pytest.approx(0.05, rel=0.2)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for name in ("1", "2"):
        view = render(Plane(), RIG.left, world_from(RIG, "left", np.eye(4)))
        write_rgb(tmp_path / "data" / "l" / "images" / f"{name}.png", view.rgb)
        (tmp_path / "maps").mkdir(exist_ok=True)
        np.save(tmp_path / "maps" / f"{name}.npy", np.full((80, 96), 0.5, np.float32))
    return tmp_path


def file_options(dataset: Path) -> MonocularOptions:
    return MonocularOptions("files", str(dataset / "maps"), datadir=str(dataset / "data"))


def test_good_files_pass_in_every_format(dataset: Path) -> None:
    check_files(file_options(dataset))
    (dataset / "maps" / "2.npy").unlink()
    np.savez(dataset / "maps" / "2.npz", relative_inverse_depth=np.full((80, 96), 0.5), other=np.zeros(3))
    check_files(file_options(dataset))
    (dataset / "maps" / "2.npz").unlink()
    write_rgb(dataset / "maps" / "2.png", np.full((80, 96), 7, np.uint8))
    check_files(file_options(dataset))
    assert read_relative(dataset / "maps" / "2.png").max() == 7
    (dataset / "maps").rename(dataset / "l")
    (dataset / "maps").mkdir()
    (dataset / "l").rename(dataset / "maps" / "l")
    check_files(file_options(dataset))


def strange_npz(maps: Path) -> None:
    (maps / "2.npy").unlink()
    np.savez(maps / "2.npz", a=np.ones(2), b=np.ones(3))


def npy_called_npz(maps: Path) -> None:
    (maps / "2.npy").rename(maps / "2.npz")


def picture(maps: Path) -> None:
    (maps / "2.npy").unlink()
    write_rgb(maps / "2.png", np.full((80, 96, 3), 7, np.uint8))


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another size": (lambda maps: np.save(maps / "2.npy", np.ones((40, 48))), "another size"),
    "a missing frame": (lambda maps: (maps / "2.npy").unlink(), "no map of frame 2"),
    "nothing known": (lambda maps: np.save(maps / "2.npy", np.full((80, 96), np.nan)), "no inverse depth"),
    "three channels": (lambda maps: np.save(maps / "2.npy", np.ones((80, 96, 3))), "no inverse depth"),
    "no array": (lambda maps: (maps / "2.npy").write_bytes(b"\x93NUMPY"), "cannot be read as a map"),
    "a strange npz": (strange_npz, "cannot be read as a map"),
    "an npy called npz": (npy_called_npz, "cannot be read as a map"),
    "a picture": (picture, "is a picture"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_files_that_do_not_fit_are_refused_before_any_stage(broken: str, dataset: Path) -> None:
    action, message = BREAKS[broken]
    action(dataset / "maps")
    with pytest.raises(InputError, match=message):
        stage.check(file_options(dataset))


def test_an_image_is_decoded_once_for_all_maps(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def size(path: Path) -> tuple[int, int]:
        decoded.append(path)
        return image_size(path)

    monkeypatch.setattr("monocular.depth_files.image_size", size)
    check_files(file_options(dataset))
    assert len(decoded) == 1


def test_right_maps_are_optional_frame_by_frame(dataset: Path) -> None:
    maps, images = dataset / "maps", dataset / "data"
    shutil.copytree(images / "l", images / "r")
    (maps / "r").mkdir()
    check_files(file_options(dataset))
    shutil.copy(maps / "2.npy", maps / "r" / "2.npy")
    check_files(file_options(dataset))
    names = {f"{side}_{name}": f"{name}.png" for side in ("left", "right") for name in ("1", "2")}
    lens = {"camera": asdict(RIG.left), "distortion": []}
    Scene(dataset, RIG, ("1", "2"), ("1", "2"), (), ("left", "right"), names).save(
        {"lenses": {"left": lens, "right": lens}}
    )
    nowhere = dataset / "nowhere"
    read = prepare_files(Task(file_options(dataset), Views(Scene.load(dataset), None), nowhere, nowhere, nowhere))
    for name in ("1", "2"):
        save_relative(dataset, name, {side: read(View(side, name)) for side in ("left", "right")})
    assert load_relative(dataset, "right", "1") is None
    for side, name in (("left", "1"), ("left", "2"), ("right", "2")):
        found = load_relative(dataset, side, name)  # type: ignore[arg-type]
        assert found is not None
        assert np.array_equal(found, np.full((80, 96), 0.5, np.float32))
    (maps / "r" / "2.npy").rename(maps / "r" / "second.npy")
    with pytest.raises(InputError, match="no map of frame 1, right eye"):
        check_files(file_options(dataset))


def test_a_missing_folder_is_refused(dataset: Path) -> None:
    with pytest.raises(InputError, match="needs --monocular_path"):
        stage.check(MonocularOptions("files", datadir=str(dataset / "data")))
    with pytest.raises(InputError, match="needs --monocular_path"):
        stage.check(MonocularOptions("files", str(dataset / "nowhere"), datadir=str(dataset / "data")))


@pytest.mark.parametrize("words", [{"monocular_iters": 0}, {"monocular_lrate": float("nan")}])
def test_a_training_without_sense_is_refused(words: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be trained"):
        stage.check(MonocularOptions(**words))


def test_the_choice_is_the_scenes_own_where_nobody_chooses(tmp_path: Path) -> None:
    both = Scene(tmp_path, RIG, ("1",), ("1",), (), ("left", "right"), {})
    left = replace(both, rig=RIG.left_only(), sides=("left",))
    assert stage.chosen_source(MonocularOptions(), left) == "small"
    with pytest.raises(NotApplicable, match="two eyes"):
        stage.chosen_source(MonocularOptions(), both)
    with pytest.raises(NotApplicable, match="none"):
        stage.chosen_source(MonocularOptions("none"), left)
    assert stage.chosen_source(MonocularOptions("dpt"), both) == "dpt"


def test_missing_weights_name_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "require_library", lambda _: None)
    monkeypatch.setattr("utils.weights._download", no_network)
    options = MonocularOptions("depth_anything", weights_dir=str(tmp_path))
    with pytest.raises(InputError) as refused:
        stage.check(options)
    assert str(tmp_path / "depth_anything" / "model.safetensors") in str(refused.value)
    assert "huggingface.co/depth-anything" in str(refused.value)


def pretrained_folder(root: Path, framing: str, config: str = "{}", weights: bytes = b"") -> MonocularOptions:
    """Write the files of a network, and return options that find them."""
    folder = root / "depth_anything"
    folder.mkdir()
    (folder / "preprocessor_config.json").write_text(framing)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(weights)
    return MonocularOptions("depth_anything", weights_dir=str(root), device="cpu")


@pytest.mark.parametrize(
    "framing",
    [
        "<html>",
        "[]",
        '{"size": "large", "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}',
        '{"size": 28, "image_mean": [0], "image_std": [1]}',
        '{"size": 28, "image_mean": [0, 0, 0], "image_std": [1, 0, 1]}',
    ],
)
def test_a_broken_preparation_is_refused_before_any_stage(
    framing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "require_library", lambda _: None)
    with pytest.raises(InputError, match="does not say how images are prepared"):
        stage.check(pretrained_folder(tmp_path, framing))


@pytest.mark.parametrize("config", ["<html>", "[]", '{"model_type": "bert"}', '{"model_type": "depth_anything"}'])
def test_a_broken_checkpoint_is_refused_before_any_stage(config: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    framing = '{"size": 28, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}'
    with pytest.raises(InputError, match="no depth network"):
        stage.check(pretrained_folder(tmp_path, framing, config, b"<html>not found</html>"))


@pytest.mark.parametrize("source", ["auto", "small"])
def test_a_device_that_is_not_there_is_refused_before_any_stage(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device"):
        stage.check(MonocularOptions(source, device="cuda"))
    stage.check(MonocularOptions("none", device="cuda"))


def no_network(*_: Any) -> None:
    raise ConnectionError("no route")


def test_a_pretrained_network_gives_a_map_of_the_images_size(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    torch.manual_seed(0)
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"size": {"height": 28, "width": 28}, "ensure_multiple_of": 14, "image_mean": [0.5, 0.5, 0.5], '
        '"image_std": [0.5, 0.5, 0.5]}'
    )
    network = pretrained.load_network(tmp_path)
    framing = pretrained.Framing.read(tmp_path / "preprocessor_config.json")
    inputs = framing.tensor(np.full((80, 96, 3), 255, np.uint8))
    assert inputs.shape == (1, 3, 28, 28)
    assert float(inputs.max()) == pytest.approx(1.0)
    with torch.inference_mode():
        found = network(pixel_values=inputs).predicted_depth[0].numpy()
    assert pretrained.relative_inverse_depth(found, (96, 80), metric=False).shape == (80, 96)
    with pytest.raises(InputError, match="no depth network"):
        pretrained.load_network(tmp_path / "nowhere")


def test_metric_networks_give_depth_and_become_inverse() -> None:
    found = np.array([[2.0, 4.0], [0.0, 4.0]], np.float32)
    inverse = pretrained.relative_inverse_depth(found, (2, 2), metric=True)
    np.testing.assert_allclose(inverse, [[0.5, 0.25], [np.nan, 0.25]])
