"""The stereo networks: equal to the published ones, framed and loaded rightly, and trainable on a scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from stereo_prior.networks import pasmnet_losses
from stereo_prior.networks.anynet import SIDE_MULTIPLE_PX, UNUSED_PREFIX, AnyNet
from stereo_prior.networks.checkpoints import load_weights
from stereo_prior.networks.inputs import Framing
from stereo_prior.networks.parallax import attend, clean_mask, regress
from stereo_prior.networks.pasmnet import PASMnet
from stereo_prior.networks.sttr import STTR, RegressionHead, _along_diagonals, encode_distances
from stereo_prior.pair import Eye, Pair
from stereo_prior.sparse_disparity import SparseDisparity, clean
from stereo_prior.sttr_training import band, example, losses
from utils.errors import InputError
from utils.training import Schedule, run_steps

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
PARITY, ANYNET = DATA / "parity", DATA / "anynet"
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason=f"the published outputs are not at {PARITY}")
needs_anynet = pytest.mark.skipif(not ANYNET.is_dir(), reason=f"AnyNet's weights are not at {ANYNET}")


def state(content: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "state_dict/"
    return {name.removeprefix(prefix): values for name, values in content.items() if name.startswith(prefix)}


def assert_published(found: Tensor, published: Tensor) -> None:
    torch.testing.assert_close(found, published, rtol=1e-4, atol=2e-3)


@pytest.fixture(scope="module")
def sttr_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sttr") / "weights.safetensors"
    save_file(state(load_file(PARITY / "sttr.safetensors")), path)
    return path


@needs_parity
@pytest.mark.slow
def test_sttr_computes_what_the_published_one_does(sttr_file: Path) -> None:
    given, network = load_file(PARITY / "sttr.safetensors"), STTR().eval()
    load_weights(network, sttr_file)
    left, right = given["input/left"], given["input/right"]
    with torch.inference_mode():
        found = network(left, right, 3)
        small = network(left[..., :128, :160], right[..., :128, :160], 1)
    assert_published(found.disparity_px, given["output/disp_pred"])
    assert_published(found.occlusion, given["output/occ_pred"])
    assert_published(found.coarse_px, given["output/disp_pred_low_res"])
    assert_published(small.disparity_px, given["output_full_sampling_128x160/disp_pred"])
    assert_published(small.occlusion, given["output_full_sampling_128x160/occ_pred"])


@needs_parity
@pytest.mark.slow
def test_rows_may_be_worked_on_in_portions(sttr_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, network = load_file(PARITY / "sttr.safetensors"), STTR().eval()
    load_weights(network, sttr_file)
    left, right = (given[f"input/{side}"][..., :128, :160] for side in ("left", "right"))
    with torch.inference_mode():
        whole = network(left, right, 4)
        monkeypatch.setattr("stereo_prior.networks.sttr._BYTES", 1)
        portions = network(left, right, 4)
    torch.testing.assert_close(portions.disparity_px, whole.disparity_px, rtol=1e-4, atol=2e-3)


def warp_as_published(right: torch.Tensor, disparity_px: torch.Tensor) -> torch.Tensor:
    """Return what the published code samples: half a pixel beside our `warp` at the borders, 0 in the middle.

    Its grid runs over the centres of the border pixels and is read as if it ran over their outer edges. Training
    with it would shift disparities by as much.
    """
    height, width = right.shape[-2:]
    columns = torch.linspace(0.0, 1.0, width, device=right.device, dtype=right.dtype)
    rows = torch.linspace(0.0, 1.0, height, device=right.device, dtype=right.dtype)
    there = columns - disparity_px[:, 0] / width
    grid = torch.stack([there, rows[:, None].expand_as(there)], dim=-1)
    return functional.grid_sample(right, 2.0 * grid - 1.0, padding_mode="border", align_corners=False)


@needs_parity
@pytest.mark.slow
@pytest.mark.parametrize("largest_px", [0, 192])
def test_pasmnet_computes_what_the_published_one_does(largest_px: int) -> None:
    given, network = load_file(PARITY / "pam.safetensors"), PASMnet().eval()
    network.load_state_dict(state(given))
    left, right = given["input/left"], given["input/right"]
    with torch.inference_mode():
        disparity_px, attention = network(left, right, largest_px)
        assert_published(disparity_px, given[f"output/disp_max_disp_{largest_px}"])
        if largest_px:
            return
        seen = functional.interpolate(attention[-1].valid_left, scale_factor=4)
        warped = warp_as_published(right, disparity_px)
        found = {
            "photometric": pasmnet_losses.photometric(left, warped, seen),
            "smoothness": pasmnet_losses.smoothness(disparity_px, left),
            "pam_photometric": pasmnet_losses.attention_photometric(left, right, attention),
            "pam_cycle": pasmnet_losses.attention_cycle(attention),
            "pam_smoothness": pasmnet_losses.attention_smoothness(attention),
        }
    for name, value in found.items():
        torch.testing.assert_close(value.reshape(1), given[f"loss/{name}"], rtol=1e-4, atol=1e-5)


@needs_anynet
@pytest.mark.parametrize("name", ["kitti2012_ck.tar", "kitti2015_ck.tar", "sceneflow.tar"])
def test_anynet_loads_its_published_weights(name: str) -> None:
    network = AnyNet().eval()
    load_weights(network, ANYNET / name, unused_prefixes=(UNUSED_PREFIX,))
    assert sum(values.numel() for values in network.parameters()) == 34_629
    with torch.inference_mode():
        found = network(torch.zeros(1, 3, 64, 96), torch.zeros(1, 3, 64, 96))
    assert found.shape == (1, 1, 64, 96)
    pair = shifted_pair(20, (0.0, 60.0), 256, 320)
    with torch.inference_mode():
        framing = Framing.of(pair, SIDE_MULTIPLE_PX)
        disparity_px = framing.disparity_px(network(*framing.images(pair))[0, 0])
    assert np.median(np.abs(disparity_px[:, 64:] - 20.0)) < 1.5


def test_diagonals_of_relative_positions_are_those_of_the_slow_way() -> None:
    values = torch.arange(2 * 5 * 9, dtype=torch.float32).reshape(2, 5, 9)
    found = _along_diagonals(values)
    for i in range(5):
        for j in range(5):
            torch.testing.assert_close(found[:, i, j], values[:, i, 4 - i + j])


def test_distances_run_from_the_largest_down() -> None:
    encoded = encode_distances(3, 2.0, 4, torch.zeros(()))
    angles = torch.tensor([4.0, 2.0, 0.0, -2.0, -4.0])
    torch.testing.assert_close(encoded[:, 0], angles.sin())
    torch.testing.assert_close(encoded[:, 3], (angles / 100.0).cos())


def test_transport_gives_every_left_token_away_once() -> None:
    transport = RegressionHead().transport(torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(transport[:, :-1].sum(dim=-1), torch.ones(2, 6))
    assert transport.shape == (2, 7, 7)


def test_disparity_is_the_mean_around_the_best_match() -> None:
    transport = torch.zeros(1, 5, 5)
    transport[0, 3, 1], transport[0, 3, 2] = 0.6, 0.2  # left column 3: right columns 1 and 2
    transport[0, 2, 0] = 0.05  # too little to be found
    disparity, matched = RegressionHead.regress(transport)
    assert float(disparity[0, 3]) == pytest.approx((0.6 * 2 + 0.2 * 1) / 0.8)
    assert float(matched[0, 3]) == pytest.approx(0.8)
    assert float(matched[0, 2]) == 1.0
    assert float(disparity[0, 2]) == pytest.approx(0.05 * 2)


def test_attention_looks_only_where_disparities_may_be() -> None:
    costs = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    found = attend(costs, costs, 3)
    for left in range(8):
        allowed = [right for right in range(8) if 0 <= left - right < 3]
        weights = found.right_to_left[0, 0, left]
        assert float(weights[allowed].sum()) == pytest.approx(1.0, abs=1e-5)
        assert float(weights.sum() - weights[allowed].sum()) == 0.0
    torch.testing.assert_close(found.cycle_left.sum(dim=-1), torch.ones(1, 2, 8), atol=1e-4, rtol=0)


def test_unseen_columns_take_the_disparity_on_their_left_and_at_the_border_on_their_right() -> None:
    attention = torch.zeros(1, 1, 5, 5)
    for left, right in ((0, 0), (1, 0), (2, 0), (3, 0), (4, 1)):
        attention[0, 0, left, right] = 1.0  # disparities 0 1 2 3 3
    valid = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0]).reshape(1, 1, 1, 5)
    found = regress(attention, valid)[0, 0, 0]
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 1.0, 1.0, 3.0]), rtol=3e-4, atol=0)


def test_specks_go_and_gaps_close() -> None:
    mask = np.zeros((30, 30), bool)
    mask[5:15, 5:15] = True
    mask[9:11, 9:11] = False  # a hole
    mask[25:27, 25:27] = True  # a speck
    cleaned = clean_mask(mask)
    assert cleaned[5:15, 5:15].all()
    assert cleaned.sum() == 100


def textured(height: int, width: int) -> NDArray[np.float32]:
    random = np.random.default_rng(0).normal(size=(height // 4, width // 4, 3))
    from cv2 import INTER_CUBIC, resize

    return np.clip(128 + 40 * resize(random, (width, height), interpolation=INTER_CUBIC), 0, 255).astype(
        np.float32
    )


def shifted_pair(disparity: int, search_px: tuple[float, float], height: int = 64, width: int = 96) -> Pair:
    wide = textured(height, width + 64)
    left, right = wide[:, 32 : 32 + width], wide[:, 32 + disparity : 32 + disparity + width]
    usable = np.ones((height, width), bool)
    return Pair(Eye(left, usable, usable), Eye(right, usable, usable), search_px)


@pytest.mark.parametrize("disparity", [-9, 0, 14])
def test_framing_makes_disparities_positive_and_takes_it_back(disparity: int) -> None:
    pair = shifted_pair(disparity, (disparity - 5.5, disparity + 6.5))
    framing = Framing.of(pair, 32)
    left, right = framing.images(pair)
    assert left.shape[-1] % 32 == left.shape[-2] % 32 == 0
    framed = disparity - framing.shift_px
    assert 0 <= framed < framing.range_px
    inside = slice(framing.left_px + 16, framing.left_px + 96 - 16)
    columns = np.arange(left.shape[-1])[inside]
    torch.testing.assert_close(left[..., :64, columns], right[..., :64, columns - framed])
    assert (framing.disparity_px(torch.full(left.shape[-2:], float(framed))) == disparity).all()


def test_the_exact_warp_of_a_shift_is_the_shift() -> None:
    image = torch.rand(1, 3, 6, 20, generator=torch.Generator().manual_seed(0))
    warped = pasmnet_losses.warp(image, torch.full((1, 1, 6, 20), 3.0))
    torch.testing.assert_close(warped[..., 3:], image[..., :-3])


def test_another_networks_checkpoint_is_refused_with_names(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"state_dict": {"module.hourglass.E0.wrong": torch.zeros(1)}, "epoch": 3}, path)
    with pytest.raises(InputError) as caught:
        load_weights(PASMnet(), path)
    assert "hourglass.E0.body.0.0.weight" in caught.value.found
    assert "hourglass.E0.wrong" in caught.value.found


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_files_that_are_no_checkpoints_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if content is None:
        torch.save([1, 2, 3], path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pth"):
        load_weights(PASMnet(), path)


def test_a_checkpoint_of_other_widths_is_refused(tmp_path: Path) -> None:
    content = nn.Linear(2, 3).state_dict()
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError) as caught:
        load_weights(nn.Linear(2, 4), tmp_path / "weights.pth")
    assert "weight (3, 2) for (4, 2)" in caught.value.found


def test_points_out_of_range_noisy_or_hidden_are_taken_away() -> None:
    columns, rows = (values.ravel().astype(float) for values in np.meshgrid(np.arange(20, 100, 4), np.arange(8)))
    disparity = np.full(len(columns), 10.0)
    disparity[0], disparity[1] = 90.0, 14.0  # out of range; unlike its neighbours
    pixels = np.stack([columns, rows], axis=1)
    kept, counts = clean(SparseDisparity(pixels, disparity), (0.0, 20.0))
    assert counts.given == len(pixels)
    assert counts.out_of_range == 1
    assert counts.noisy == 1
    assert counts.occluded == 0
    assert len(kept.pixels) == len(pixels) - 2
    assert (kept.disparity_px == 10.0).all()


def test_what_lands_behind_a_nearer_point_is_occluded() -> None:
    pixels = np.array([[50.0, 5.0], [56.0, 5.0], [80.0, 5.0]])
    kept, counts = clean(SparseDisparity(pixels, np.array([10.0, 16.0, 12.0])), (0.0, 20.0))
    assert counts.occluded == 1
    assert kept.disparity_px.tolist() == [16.0, 12.0]


def test_sttr_learns_a_shift_from_sparse_points(tmp_path: Path) -> None:
    pair = shifted_pair(6, (0.0, 12.0), 128, 128)
    random = np.random.default_rng(0)
    pixels = random.uniform([30.0, 4.0], [120.0, 123.0], (60, 2))
    torch.manual_seed(0)
    network = STTR()
    given = band(example(pair, SparseDisparity(pixels, np.full(60, 6.0))), 0)
    with torch.no_grad():
        before = float(losses(network, given, 8))
    run_steps(network, "sttr", lambda _: losses(network, given, 8), Schedule(6, 1e-3, 0, 100), tmp_path)
    with torch.no_grad():
        assert float(losses(network, given, 8)) < 0.8 * before
