"""The diffusers adapter on a small random model in the published layout: numbers, mistakes, a missing library."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from novel_view import diffusers_prior, zero123_files
from novel_view.denoising import Conditions, sample
from novel_view.diffusers_prior import Zero123Options, Zero123Prior, load_zero123
from novel_view.zero123_files import EXTRA, PUBLISHED, check_folder, fetch_model, read_projection
from utils.errors import InputError
from utils.geometry import invert_rigid, rigid
from utils.types import FloatArray
from utils.weights import library

INSTALLED = all(importlib.util.find_spec(name) for name in ("diffusers", "transformers"))
needs_diffusers = pytest.mark.skipif(not INSTALLED, reason="diffusers is not installed (extra `diffusion`)")
WEIGHTS = os.environ.get("SPECULA_ZERO123", "")
DISTANCE = 80.0
OPTIONS = Zero123Options(DISTANCE, mm_per_unit=40.0, guidance=3.0)
SIZE, CELLS = 16, 8


def make_model(folder: Path, **unet: Any) -> Path:
    """Save a model of a few thousand random weights: 16 x 16 px images, latents of 8 x 8."""
    from safetensors.torch import save_file

    diffusers, transformers = library("diffusers", EXTRA), library("transformers", EXTRA)
    torch.manual_seed(0)
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    shape = {"sample_size": CELLS, "in_channels": 8, "out_channels": 4, "cross_attention_dim": 12} | unet
    diffusers.UNet2DConditionModel(**shape, **blocks, attention_head_dim=4).save_pretrained(folder / "unet")
    diffusers.AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=SIZE,
    ).save_pretrained(folder / "vae")
    vision = transformers.CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, projection_dim=10, num_hidden_layers=1, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")
    diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
    ).save_pretrained(folder / "scheduler")
    projection = folder / "clip_camera_projection"
    projection.mkdir()
    layer = {"proj.weight": torch.randn(12, 14), "proj.bias": torch.randn(12)}
    save_file(layer, projection / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def prior(folder: Path) -> Zero123Prior:
    return load_zero123(folder, OPTIONS, "cpu")


def guided(prior: Zero123Prior, scale: float) -> Zero123Prior:
    return Zero123Prior(prior.parts, Zero123Options(DISTANCE, 40.0, scale))


def about_point(degrees: float, axis: str = "y") -> FloatArray:
    """Return target_from_condition of a target carried round the condition's fixation point."""
    vector = np.radians(degrees) * np.array([axis == "x", axis == "y", axis == "z"], float)
    point = rigid(np.eye(3), np.array([0, 0, DISTANCE]))
    turn = rigid(np.asarray(cv2.Rodrigues(vector)[0], float), np.zeros(3))
    return invert_rigid(point @ turn @ invert_rigid(point))


def conditions(*degrees: float) -> tuple[Tensor, Tensor]:
    images = torch.rand(len(degrees), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return images, torch.from_numpy(np.stack([about_point(each) for each in degrees])).float()


def noisy(k: int, *, shared: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    codes = torch.randn(1 if shared else k, 4, CELLS, CELLS, generator=generator)
    return codes.expand(k, -1, -1, -1) if shared else codes


@needs_diffusers
@pytest.mark.usefixtures("one_thread")
class TestPrior:
    def test_sizes_and_schedule_are_those_of_the_files(self, prior: Zero123Prior) -> None:
        assert prior.image_size == (SIZE, SIZE)
        assert len(prior.schedule) == 1000
        assert float(prior.schedule.kept[0]) == pytest.approx(1 - 0.00085)
        assert prior.encode(conditions(0, 10)[0]).shape == (2, 4, CELLS, CELLS)
        assert prior.decode(noisy(2)).shape == (2, 3, SIZE, SIZE)

    def test_codes_are_scaled_latents_and_those_of_conditions_are_not(self, prior: Zero123Prior) -> None:
        """The published models take the latents of conditions as they leave the encoder (scale 0.18215)."""
        images, _ = conditions(0)
        mode = prior.parts.vae.encode(images).latent_dist.mode()
        torch.testing.assert_close(prior.encode(images), 0.18215 * mode)
        torch.testing.assert_close(prior.decode(0.18215 * mode), prior.parts.vae.decode(mode).sample)
        heard = []
        parts = SimpleNamespace(**vars(prior.parts))
        network = prior.parts.unet

        class Listening:
            device, dtype = network.device, network.dtype

            def __call__(self, codes: Tensor, *rest: Any, **named: Any) -> Any:
                heard.append((codes, named["encoder_hidden_states"]))
                return network(codes, *rest, **named)

        parts.unet = Listening()
        Zero123Prior(parts, OPTIONS).predict_noise(*conditions(0), noisy(1), 500)  # type: ignore[arg-type]
        codes, vectors = heard[0]
        torch.testing.assert_close(codes[1, 4:], mode[0])
        assert not codes[0, 4:].any(), "unguided: no condition beside the codes"
        assert not vectors[0].any(), "and no vector"
        assert torch.equal(codes[0, :4], codes[1, :4])

    def test_the_embedding_is_that_of_clip_and_the_published_pose_vector(self, prior: Zero123Prior) -> None:
        """By hand: bicubic to 28 px with aligned corners, in [0, 1], standardised; pose (0, sin, cos, 0)."""
        images, poses = conditions(-30)
        mean, std = (
            torch.tensor([0.48145466, 0.4578275, 0.40821073]),
            torch.tensor([0.26862954, 0.26130258, 0.27577711]),
        )
        resized = torch.nn.functional.interpolate(images, (28, 28), mode="bicubic", align_corners=True)
        colours = ((resized + 1) / 2 - mean[:, None, None]) / std[:, None, None]
        embedding = prior.parts.image_encoder(colours).image_embeds
        pose = torch.tensor([[0.0, 0.5, 0.75**0.5, 0.0]])
        expected = torch.cat([embedding, pose], 1) @ prior.parts.projection.weight.T + prior.parts.projection.bias
        torch.testing.assert_close(prior._tell(images, poses)[1][:, 0], expected, rtol=1e-4, atol=1e-5)

    def test_guidance_of_one_is_the_conditional_prediction(self, prior: Zero123Prior) -> None:
        images, poses = conditions(0, 20)
        none, one, three = (
            guided(prior, scale).predict_noise(images, poses, noisy(2), 300) for scale in (0.0, 1.0, 3.0)
        )
        torch.testing.assert_close(three, none + 3 * (one - none), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(none[0], none[1]), "without a condition the conditions make no difference"
        assert float((one[0] - one[1]).abs().max()) > 1e-4
        beside, vector = prior._tell(images, poses)
        direct = prior.parts.unet(torch.cat([noisy(2), beside], 1), 300, encoder_hidden_states=vector).sample
        torch.testing.assert_close(one, direct)

    @pytest.mark.parametrize("shared", [True, False])
    def test_many_conditions_are_as_one_by_one(self, prior: Zero123Prior, shared: bool) -> None:
        images, poses = conditions(0, 15, -25)
        codes = noisy(3, shared=shared)
        together = prior.predict_noise(images, poses, codes, 700)
        for i in range(3):
            alone = prior.predict_noise(images[i : i + 1], poses[i : i + 1], codes[i : i + 1], 700)
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)

    def test_the_pose_and_the_image_reach_the_prediction(self, prior: Zero123Prior) -> None:
        (image, here), (_, there) = conditions(0), conditions(40)
        base = prior.predict_noise(image, here, noisy(1), 400)
        assert float((prior.predict_noise(image, there, noisy(1), 400) - base).abs().max()) > 1e-4
        assert float((prior.predict_noise(-image, here, noisy(1), 400) - base).abs().max()) > 1e-4
        assert torch.equal(prior.predict_noise(image, here, noisy(1), 400), base)

    def test_conditions_changed_in_place_are_heard_anew(self, prior: Zero123Prior) -> None:
        image, here = conditions(0)
        before = prior.predict_noise(image, here, noisy(1), 400)
        image.neg_()
        assert not torch.equal(prior.predict_noise(image, here, noisy(1), 400), before)

    def test_encoding_lets_gradients_through_and_the_weights_have_none(self, prior: Zero123Prior) -> None:
        image = conditions(0)[0].requires_grad_()
        prior.encode(image).sum().backward()
        assert image.grad is not None
        assert float(image.grad.abs().sum()) > 0
        assert not any(each.requires_grad for each in prior.parts.unet.parameters())

    def test_a_view_can_be_sampled_from_two_conditions(self, prior: Zero123Prior) -> None:
        images, poses = conditions(10, -10)
        weights = torch.full((2, 1, SIZE, SIZE), 0.5)
        image = sample(prior, Conditions(images, poses, weights), 3, generator=torch.Generator().manual_seed(0))
        assert image.shape == (1, 3, SIZE, SIZE)
        assert bool(image.isfinite().all())

    def test_a_known_half_is_kept(self, prior: Zero123Prior) -> None:
        images, poses = conditions(5)
        mask = torch.zeros(1, 1, SIZE, SIZE)
        mask[..., :9] = 1
        found = sample(prior, Conditions(images, poses, torch.ones(1)), 3, known=(images, mask))
        assert torch.equal(found[..., :9], images[..., :9])
        assert not torch.equal(found[..., 9:], images[..., 9:])


@needs_diffusers
class TestPoses:
    def test_rolled_targets_are_refused_and_slightly_rolled_ones_logged(
        self, prior: Zero123Prior, caplog: pytest.LogCaptureFixture
    ) -> None:
        image, _ = conditions(0)
        for degrees in (4.0, 12.0):
            with caplog.at_level(logging.WARNING, "specula"):
                prior.predict_noise(image, torch.from_numpy(about_point(degrees, "z"))[None], noisy(1), 10)
        assert [record.getMessage() for record in caplog.records] == [
            "seen from condition 1 the target is rolled by 12.0 degrees, which the diffusion model is not told"
        ]
        with pytest.raises(InputError, match="is rolled by 30 degrees"):
            prior.predict_noise(image, torch.from_numpy(about_point(30, "z"))[None], noisy(1), 10)

    def test_targets_that_look_elsewhere_are_refused(self, prior: Zero123Prior) -> None:
        images, poses = conditions(0, 0)
        poses[1, :3, 3] = torch.tensor([-40.0, 0, 0])
        with pytest.raises(InputError, match="condition 2 it looks past the fixation point by 27 degrees"):
            prior.predict_noise(images, poses, noisy(2), 10)

    def test_the_unit_of_length_scales_the_change_of_distance_alone(self, prior: Zero123Prior) -> None:
        back = torch.eye(4)[None].clone()
        back[0, 2, 3] = 20.0  # the condition lies 20 mm in front of the target
        for unit, expected in ((40.0, 0.5), (10.0, 2.0), (None, 20 / (DISTANCE / 1.85))):
            vector = Zero123Prior(prior.parts, Zero123Options(DISTANCE, unit))._pose_vectors(back)
            np.testing.assert_allclose(vector, [[0, 0, 1, expected]], atol=1e-6)

    def test_images_of_another_size_are_refused(self, prior: Zero123Prior) -> None:
        with pytest.raises(InputError, match="another size than the diffusion model"):
            prior.predict_noise(torch.zeros(1, 3, 32, 32), torch.eye(4)[None], noisy(1), 10)

    @pytest.mark.parametrize(
        "numbers", [(0.0, None, 3.0), (80.0, -1.0, 3.0), (80.0, None, -1.0), (float("nan"), None, 1.0)]
    )
    def test_options_that_make_no_sense(self, numbers: tuple[float, float | None, float]) -> None:
        with pytest.raises(InputError, match="make no sense"):
            Zero123Options(*numbers)


@needs_diffusers
class TestFiles:
    @pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "scheduler", "clip_camera_projection"])
    def test_a_missing_part_is_named(self, copy: Path, part: str) -> None:
        shutil.rmtree(copy / part)
        with pytest.raises(InputError, match=f"no {part}") as caught:
            load_zero123(copy, OPTIONS, "cpu")
        assert f"--download {PUBLISHED}" in str(caught.value)
        assert "CreativeML OpenRAIL-M" in str(caught.value)

    def test_no_folder_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such folder"):
            load_zero123(tmp_path / "nowhere", OPTIONS)

    def test_both_published_names_of_the_projection_are_read(self, copy: Path, prior: Zero123Prior) -> None:
        """bennyguo's conversion calls it clip_camera_projection, kxic's cc_projection, with a pickled file."""
        shutil.rmtree(copy / "clip_camera_projection")
        other = copy / "cc_projection"
        other.mkdir()
        layer = prior.parts.projection
        torch.save(
            {"projection.weight": layer.weight, "projection.bias": layer.bias},
            other / "diffusion_pytorch_model.bin",
        )
        torch.testing.assert_close(load_zero123(copy, OPTIONS, "cpu").parts.projection.weight, layer.weight)

    @pytest.mark.parametrize("channels", [4, 9])
    def test_a_model_of_another_kind_is_refused_before_it_is_loaded(self, copy: Path, channels: int) -> None:
        """4: Stable Diffusion itself; 9: its inpainting model."""
        edit(copy / "unet" / "config.json", in_channels=channels)
        (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        with pytest.raises(InputError, match=f"a UNet from {channels} to 4 channels"):
            load_zero123(copy, OPTIONS, "cpu")

    def test_a_network_that_predicts_something_else_is_refused(self, copy: Path) -> None:
        edit(copy / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
        with pytest.raises(InputError, match="predicts v_prediction"):
            load_zero123(copy, OPTIONS, "cpu")

    def test_a_projection_of_another_width_is_refused(self, copy: Path) -> None:
        from safetensors.torch import save_file

        file = copy / "clip_camera_projection" / "diffusion_pytorch_model.safetensors"
        save_file({"proj.weight": torch.zeros(12, 10), "proj.bias": torch.zeros(12)}, file)
        with pytest.raises(InputError, match="a projection from 10 to 12 numbers"):
            load_zero123(copy, OPTIONS, "cpu")
        save_file({"proj.weight": torch.zeros(12, 10)}, file)
        with pytest.raises(InputError, match="not the weight and bias of one linear layer"):
            read_projection(file.parent)

    def test_damaged_files_are_named(self, copy: Path) -> None:
        (copy / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"no tensors")
        with pytest.raises(InputError, match="vae cannot be read"):
            load_zero123(copy, OPTIONS, "cpu")
        (copy / "unet" / "config.json").write_text("{")
        with pytest.raises(InputError, match=r"config\.json cannot be read"):
            check_folder(copy)

    def test_weights_that_lack_a_layer_are_not_filled_with_random_numbers(self, copy: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = copy / "image_encoder" / "model.safetensors"
        stored = load_file(file)
        stored.pop("visual_projection.weight")
        save_file(stored, file, {"format": "pt"})
        with pytest.raises(InputError, match="image_encoder cannot be read"):
            load_zero123(copy, OPTIONS, "cpu")

    def test_the_command_tells_what_a_folder_holds(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert diffusers_prior.main([str(folder), "--device", "cpu"]) == 0
        said = capsys.readouterr().out
        assert "16 x 16 px, 1000 levels of noise" in said
        assert "CreativeML OpenRAIL-M" in said
        assert diffusers_prior.main([str(folder / "unet")]) == 2


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


class TestDownload:
    def test_only_what_is_used_is_fetched_and_no_code(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        asked: dict[str, Any] = {}
        hub = SimpleNamespace(
            snapshot_download=lambda repository, **named: asked.update(repository=repository, **named),
            errors=SimpleNamespace(HfHubHTTPError=OSError),
        )
        monkeypatch.setattr(zero123_files, "library", lambda *_: hub)
        fetch_model("owner/model", tmp_path)
        assert (asked["repository"], asked["local_dir"]) == ("owner/model", tmp_path)
        assert "unet/*.safetensors" in asked["allow_patterns"]
        assert not any(pattern.endswith((".py", "/*", "*.ckpt")) for pattern in asked["allow_patterns"])

    def test_nothing_is_downloaded_unasked(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(diffusers_prior, "fetch_model", lambda *_: pytest.fail("it was"))
        with pytest.raises(InputError):
            load_zero123(tmp_path, OPTIONS)

    def test_a_hub_that_cannot_be_reached_is_said(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise ConnectionError("no route to host")

        hub = SimpleNamespace(snapshot_download=fail, errors=SimpleNamespace(HfHubHTTPError=OSError))
        monkeypatch.setattr(zero123_files, "library", lambda *_: hub)
        with pytest.raises(InputError, match="no route to host"):
            fetch_model("owner/model", tmp_path)

    @pytest.mark.parametrize("name", ["zero123", "https://huggingface.co/a/b", "a/b/c", "a b/c"])
    def test_a_name_that_is_no_repository(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="does not name a repository"):
            fetch_model(name, tmp_path)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"library diffusers is missing[\s\S]*pip install '\.\[diffusion\]'"):
        load_zero123(tmp_path, OPTIONS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.skipif(not WEIGHTS, reason="SPECULA_ZERO123 names no folder of weights")
def test_published_weights_on_a_gpu() -> None:
    """The condition's own view comes out as the condition, and another pose as another image."""
    prior = load_zero123(Path(WEIGHTS), Zero123Options(DISTANCE), "cuda")
    assert prior.image_size == (256, 256)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 256), torch.linspace(-1, 1, 256), indexing="ij")
    ball = (rows**2 + columns**2 < 0.4).float()
    image = torch.stack([1 - 1.6 * ball, 1 - ball * (1.2 + 0.6 * rows), 1 - ball * (1.2 + 0.6 * columns)])[
        None
    ].cuda()
    decoded = prior.decode(prior.encode(image))
    assert float((decoded - image).abs().mean()) < 0.1
    views = [
        sample(
            prior,
            Conditions(image, torch.from_numpy(about_point(degrees))[None].float().cuda(), torch.ones(1).cuda()),
            steps=50,
            generator=torch.Generator().manual_seed(0),
        )
        for degrees in (0.0, 60.0)
    ]
    assert float((views[0] - image).abs().mean()) < 0.25
    assert float((views[1] - views[0]).abs().mean()) > 0.02
