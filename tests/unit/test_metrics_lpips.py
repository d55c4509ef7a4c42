"""LPIPS: laws, a slow reimplementation, and what happens without its weights."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from evaluation.image_metrics import unit_range
from evaluation.lpips import Lpips, LpipsFiles, find_weights, load_lpips
from evaluation.lpips_backbones import ALEX, VGG
from evaluation.scores import rgb_metrics
from utils.errors import InputError

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


def published_weights() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Random weights under the published names; the backbone has its classifier, the heads are not negative."""
    generator = torch.Generator().manual_seed(0)
    backbone = {"classifier.6.bias": torch.zeros(1000)}
    heads = {}
    for index, (place, shape) in enumerate(SHAPES.items()):
        spread = (2 / np.prod(shape[1:])) ** 0.5
        backbone[f"features.{place}.weight"] = torch.randn(shape, generator=generator) * spread
        backbone[f"features.{place}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
        heads[f"lin{index}.model.1.weight"] = torch.rand((1, shape[0], 1, 1), generator=generator)
    return backbone, heads


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> LpipsFiles:
    folder = tmp_path_factory.mktemp("weights")
    backbone, heads = published_weights()
    torch.save(backbone, folder / ALEX.file)
    torch.save(heads, folder / "alex.pth")
    return LpipsFiles(folder / "alex.pth", folder / ALEX.file)


def slow_layer_maps(image: np.ndarray) -> list[torch.Tensor]:
    """AlexNet's features as written in the paper's table, one call after the other."""
    backbone, _ = published_weights()

    def convolve(x: torch.Tensor, place: int, stride: int, padding: int) -> torch.Tensor:
        weight, bias = backbone[f"features.{place}.weight"], backbone[f"features.{place}.bias"]
        return functional.conv2d(x, weight, bias, stride, padding).clamp(min=0)

    x = torch.from_numpy(image).float().permute(2, 0, 1)[None] * 2 - 1
    x = torch.stack(
        [
            (x[:, c] - s) / d
            for c, s, d in zip(range(3), (-0.03, -0.088, -0.188), (0.458, 0.448, 0.45), strict=True)
        ],
        dim=1,
    )
    one = convolve(x, 0, 4, 2)
    two = convolve(functional.max_pool2d(one, 3, 2), 3, 1, 2)
    three = convolve(functional.max_pool2d(two, 3, 2), 6, 1, 1)
    four = convolve(three, 8, 1, 1)
    return [one, two, three, four, convolve(four, 10, 1, 1)]


def slow_distance(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    _, heads = published_weights()
    height, width = image.shape[:2]
    total = np.zeros((height, width))
    for index, layers in enumerate(zip(slow_layer_maps(image), slow_layer_maps(reference), strict=True)):
        a, b = (layer[0].numpy().astype(np.float64) for layer in layers)
        a /= np.sqrt((a**2).sum(0)) + 1e-10
        b /= np.sqrt((b**2).sum(0)) + 1e-10
        weights = heads[f"lin{index}.model.1.weight"].numpy().ravel()
        small = np.zeros(a.shape[1:])
        for channel, weight in enumerate(weights):
            small += weight * (a[channel] - b[channel]) ** 2
        total += stretch(small, height, width)
    return total


def stretch(small: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with half-pixel centres, clamped at the border, by explicit interpolation."""

    def places(size: int, inner: int) -> np.ndarray:
        return np.clip((np.arange(size) + 0.5) * inner / size - 0.5, 0, inner - 1)

    rows, columns = places(height, small.shape[0]), places(width, small.shape[1])
    across = np.stack([np.interp(columns, np.arange(small.shape[1]), line) for line in small])
    return np.stack([np.interp(rows, np.arange(small.shape[0]), line) for line in across.T], axis=1)


def pair(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.random((height, width, 3)), rng.random((height, width, 3))


def test_the_map_agrees_with_a_slow_reimplementation(files: LpipsFiles) -> None:
    image, reference = pair()
    found = load_lpips(files).distance_map(image, reference)
    assert found.shape == (48, 64)
    np.testing.assert_allclose(found, slow_distance(image, reference), rtol=2e-4)


def test_equal_images_have_distance_zero_and_order_does_not_matter(files: LpipsFiles) -> None:
    model = load_lpips(files)
    image, reference = pair()
    assert (model.distance_map(image, image) == 0).all()
    there, back = model.distance_map(image, reference), model.distance_map(reference, image)
    np.testing.assert_allclose(there, back, rtol=1e-5)
    assert (there > 0).all()


def test_a_larger_disturbance_is_farther_away(files: LpipsFiles) -> None:
    model = load_lpips(files)
    image, reference = pair()
    near, far = 0.95 * image + 0.05 * reference, 0.5 * image + 0.5 * reference
    assert model.distance_map(near, image).mean() < model.distance_map(far, image).mean()


def test_regions_average_the_map(files: LpipsFiles) -> None:
    model = load_lpips(files)
    rng = np.random.default_rng(5)
    image, reference = (rng.integers(0, 256, (40, 40, 3)).astype(np.uint8) for _ in range(2))
    region = np.zeros((40, 40), dtype=bool)
    region[5:20, 30:] = True
    scored = rgb_metrics(image, reference, {"full": np.ones_like(region), "tissue": region}, model)
    distance = model.distance_map(unit_range(image), unit_range(reference))
    assert scored["tissue"]["lpips"] == pytest.approx(distance[5:20, 30:].mean(), rel=1e-5)
    assert scored["full"]["lpips"] == pytest.approx(distance.mean(), rel=1e-5)


def test_the_smallest_image_passes_and_a_smaller_one_is_refused(files: LpipsFiles) -> None:
    model = load_lpips(files)
    image, reference = pair(ALEX.smallest_px, ALEX.smallest_px)
    assert model.distance_map(image, reference).shape == (ALEX.smallest_px,) * 2
    with pytest.raises(ValueError, match="31 px"):
        model.distance_map(image[1:], reference[1:])


def test_without_weights_there_is_a_reason_and_no_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("tried to download"))
    found, why = find_weights(None, None)
    assert found is None
    for words in ("--lpips_heads", "--no-deps lpips", "--lpips_backbone", ALEX.file, str(tmp_path)):
        assert words in why


def test_weights_of_an_installed_package_and_of_the_cache_are_found_without_importing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: LpipsFiles
) -> None:
    package, cache = tmp_path / "lpips", tmp_path / "hub" / "checkpoints"
    (package / "weights" / "v0.1").mkdir(parents=True)
    cache.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs torchvision')")
    (package / "weights" / "v0.1" / "alex.pth").write_bytes(files.heads.read_bytes())
    (cache / ALEX.file).write_bytes(b"")
    spec = ModuleSpec("lpips", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec if name == "lpips" else None)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    found, why = find_weights(None, None)
    assert why == ""
    assert found == LpipsFiles(package / "weights" / "v0.1" / "alex.pth", cache / ALEX.file)


def test_only_the_missing_half_is_named(
    monkeypatch: pytest.MonkeyPatch, files: LpipsFiles, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    found, why = find_weights(str(files.heads), None)
    assert found is None
    assert "backbone" in why
    assert "linear heads" not in why


@pytest.mark.parametrize("flag", ["heads", "backbone"])
def test_a_given_path_that_is_no_file_is_refused(flag: str, tmp_path: Path) -> None:
    given = {"heads": None, "backbone": None} | {flag: str(tmp_path / "nowhere.pth")}
    with pytest.raises(InputError, match=f"--lpips_{flag}"):
        find_weights(given["heads"], given["backbone"])


def test_files_of_something_else_are_refused(files: LpipsFiles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"features\.0\.weight"):
        load_lpips(LpipsFiles(files.heads, files.heads))
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_lpips(LpipsFiles(broken, files.backbone))
    other = tmp_path / "vgg.pth"
    torch.save({"lin0.model.1.weight": torch.zeros(1, 128, 1, 1)}, other)
    with pytest.raises(InputError, match=r"1, 128, 1, 1"):
        load_lpips(LpipsFiles(other, files.backbone))


VGG_CONVOLUTIONS = {
    1: (0, 2),
    2: (5, 7),
    3: (10, 12, 14),
    4: (17, 19, 21),
    5: (24, 26, 28),
}  # torchvision's places
VGG_WIDTHS = (3, 64, 128, 256, 512, 512)


def vgg_weights() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Random weights under the published names of VGG16 and of its heads."""
    generator = torch.Generator().manual_seed(1)
    backbone, heads = {"classifier.0.bias": torch.zeros(4096)}, {}
    for block, places in VGG_CONVOLUTIONS.items():
        for index, place in enumerate(places):
            shape = (VGG_WIDTHS[block], VGG_WIDTHS[block - 1 if index == 0 else block], 3, 3)
            spread = (2 / np.prod(shape[1:])) ** 0.5
            backbone[f"features.{place}.weight"] = torch.randn(shape, generator=generator) * spread
            backbone[f"features.{place}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
        heads[f"lin{block - 1}.model.1.weight"] = torch.rand((1, VGG_WIDTHS[block], 1, 1), generator=generator)
    return backbone, heads


@pytest.fixture(scope="module")
def vgg_files(tmp_path_factory: pytest.TempPathFactory) -> LpipsFiles:
    folder = tmp_path_factory.mktemp("vgg")
    backbone, heads = vgg_weights()
    torch.save(backbone, folder / VGG.file)
    torch.save(heads, folder / "vgg.pth")
    return LpipsFiles(folder / "vgg.pth", folder / VGG.file, VGG)


def slow_vgg_distance(image: np.ndarray, reference: np.ndarray, *, rescaled: bool) -> float:
    """VGG16 as the paper's column D: blocks of 3 x 3 convolutions, pooled between; the means of five layers."""
    backbone, heads = vgg_weights()
    total = 0.0
    features = []
    for one in (image, reference):
        x = torch.from_numpy(one).double().permute(2, 0, 1)[None]
        x = 2 * x - 1 if rescaled else x
        shift, scale = torch.tensor([-0.03, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.45])
        x = (x - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
        layers = []
        for block, places in VGG_CONVOLUTIONS.items():
            x = functional.max_pool2d(x, 2, 2) if block > 1 else x
            for place in places:
                weight, bias = (backbone[f"features.{place}.{kind}"].double() for kind in ("weight", "bias"))
                x = functional.conv2d(x, weight, bias, padding=1).clamp(min=0)
            layers.append(x[0].numpy())
        features.append(layers)
    for index, (a, b) in enumerate(zip(*features, strict=True)):
        a, b = (layer / (np.sqrt((layer**2).sum(0)) + 1e-10) for layer in (a, b))
        weights = heads[f"lin{index}.model.1.weight"].numpy().reshape(-1, 1, 1)
        total += float((weights * (a - b) ** 2).sum(0).mean())
    return total


@pytest.mark.parametrize("rescaled", [True, False])
def test_vgg_agrees_with_a_slow_reimplementation(vgg_files: LpipsFiles, rescaled: bool) -> None:
    image, reference = pair(20, 33)
    found = load_lpips(vgg_files).distance(image, reference, rescaled=rescaled)
    assert found == pytest.approx(slow_vgg_distance(image, reference, rescaled=rescaled), rel=2e-4)


def test_vgg_sees_smaller_images_than_alexnet_and_no_smaller_ones(vgg_files: LpipsFiles) -> None:
    model = load_lpips(vgg_files)
    image, reference = pair(16, 16)
    assert model.distance(image, image) == 0
    assert model.distance_map(image, reference).shape == (16, 16)
    with pytest.raises(ValueError, match="16 px"):
        model.distance(image[1:], reference[1:])


def test_a_number_is_the_sum_of_the_layers_means(files: LpipsFiles) -> None:
    model = load_lpips(files)
    image, reference = pair()
    total = 0.0
    _, heads = published_weights()
    for index, layers in enumerate(zip(slow_layer_maps(image), slow_layer_maps(reference), strict=True)):
        a, b = (layer[0] / (layer[0].square().sum(0).sqrt() + 1e-10) for layer in layers)
        total += float((heads[f"lin{index}.model.1.weight"][0] * (a - b).square()).sum(0).mean())
    assert model.distance(image, reference) == pytest.approx(total, rel=1e-4)
    assert model.distance(image, reference) == pytest.approx(model.distance_map(image, reference).mean(), rel=0.1)


def test_images_that_were_not_rescaled_are_nearer(files: LpipsFiles) -> None:
    """[0, 1] in the place of [-1, 1] is the same network on images of half the contrast."""
    model = load_lpips(files)
    image, reference = pair()
    half = model.distance(0.5 + image / 2, 0.5 + reference / 2, rescaled=True)
    assert model.distance(image, reference, rescaled=False) == pytest.approx(half, rel=1e-4)


def test_weights_of_vgg_are_looked_for_under_their_own_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vgg_files: LpipsFiles, files: LpipsFiles
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    found, why = find_weights(None, None, VGG)
    assert found is None
    for words in ("--lpips_vgg_heads", "vgg.pth", "--lpips_vgg_backbone", VGG.file, "VGG16"):
        assert words in why
    assert find_weights(str(vgg_files.heads), str(vgg_files.backbone), VGG) == (vgg_files, "")
    with pytest.raises(InputError, match="LPIPS with VGG16"):
        load_lpips(LpipsFiles(vgg_files.heads, files.backbone, VGG))


def test_layers_that_count_follow_a_rectifier() -> None:
    for net in (ALEX, VGG):
        model = Lpips(net)
        assert all(isinstance(model.features[place], torch.nn.ReLU) for place in net.counted)
        assert [head.in_channels for head in model.heads] == list(net.widths)
        assert net.counted[-1] == len(model.features) - 1
