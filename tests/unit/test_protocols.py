"""Every protocol on a run made by hand, five stereo frames of 48 x 36: its numbers, its refusals, its tables."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import stage
from evaluation.lpips import Lpips
from evaluation.lpips_backbones import ALEX, VGG
from evaluation.protocols import named, page
from evaluation.protocols.colour import ssim
from evaluation.protocols.command import main
from evaluation.protocols.named import PROTOCOLS, Scores
from evaluation.protocols.scored_run import Crop, Pair, Refused, ScoredRun
from evaluation.protocols.scoring import check, chosen, files, record, score_protocols
from evaluation.truth import truth_reader
from tests.finished_run import CAMERA, HEIGHT, NAMES, WIDTH, Example, plane_mm
from utils.artifacts import load_maps, map_path, read_json, save_maps, write_json
from utils.errors import InputError
from utils.images import write_rgb
from utils.ply import write_ply
from utils.scene import Scene

GREY = 100
OFF = dict(zip(NAMES, (5, 10, 20, 30, 40), strict=True))  # grey levels that a render is off on tissue
EIGHTH = ("b",)  # i = 1 of five
ODD = ("b", "d")


class Run:
    """The example with known colour errors, tissue on its left half, and any split."""

    def __init__(self, root: Path) -> None:
        self.example = Example(root)
        self.tissue = np.zeros((HEIGHT, WIDTH), bool)
        self.tissue[:, : WIDTH // 2] = True
        self.metrics: dict[str, Any] = {"metric": True}
        for name in NAMES:
            path = self.example.data / "l" / "images" / f"{name}.png"
            write_rgb(path, np.full((HEIGHT, WIDTH, 3), GREY, np.uint8))
            nothing = np.zeros_like(self.tissue)
            save_maps(self.logs / "scene" / "masks", "left", name, tissue=self.tissue, highlight=nothing)
            rendered = np.where(self.tissue[..., None], GREY + OFF[name], 250)
            self.change("render", name, rgb=np.repeat(rendered, 3, axis=2).astype(np.uint8))

    @property
    def logs(self) -> Path:
        return self.example.logs

    def change(self, folder: str, name: str, **maps: np.ndarray) -> None:
        save_maps(self.logs / folder, "left", name, **(load_maps(self.logs / folder, "left", name) | maps))

    def split(self, train: Sequence[str], test: Sequence[str]) -> None:
        path = self.logs / "scene" / "frames.json"
        write_json(path, read_json(path) | {"train": list(train), "test": list(test)})

    def hold_out(self, *test: str) -> None:
        self.split([name for name in NAMES if name not in test], test)

    def scored_run(self) -> ScoredRun:
        scene = Scene.load(self.logs / "scene")
        folders = {name: self.logs / name for name in ("poses", "prior", "nerf", "render", "filter", "export")}
        options = self.example.options
        return ScoredRun(options, scene, folders, truth_reader(options, scene), self.metrics)

    def score(self, name: str) -> Scores:
        return PROTOCOLS[name](self.scored_run())

    def record(self, name: str) -> dict[str, Any]:
        run = self.scored_run()
        return record(PROTOCOLS[name](run), run)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    return Run(tmp_path)


def db(squared_levels: float) -> float:
    return 10 * math.log10(255**2 / squared_levels)


def masked_pair(name: str, columns: slice = slice(None)) -> Pair:
    """The two images of a frame, black outside the tissue."""
    tissue = np.zeros((HEIGHT, WIDTH), bool)
    tissue[:, : WIDTH // 2] = True
    images = [np.repeat(np.where(tissue, grey / 255, 0)[..., None], 3, 2) for grey in (GREY + OFF[name], GREY)]
    kept = [image.astype(np.float32)[:, columns] for image in images]
    return Pair(kept[0], kept[1], tissue[:, columns])


def test_endonerf(run: Run) -> None:
    run.split(NAMES, ())
    scores = run.score("endonerf").numbers
    assert scores["psnr"] == pytest.approx(db((10**2 + 20**2 + 30**2 + 40**2) / 4 * 0.5), abs=1e-4)
    expected = np.mean([ssim("zero_padded", masked_pair(name)) for name in NAMES[1:]])
    assert scores["ssim"] == pytest.approx(expected, abs=1e-6)
    assert scores["tissue_share"] == 0.5
    assert run.score("endonerf").n_frames == 4
    assert run.score("endonerf").split == "trained on what it is scored on, all frames but the first"


def test_endogs_gives_what_endonerf_gives_less_the_black_half(run: Run) -> None:
    run.split(NAMES, ())
    scores = run.score("endogs").numbers
    assert scores["psnr"] == pytest.approx(db((10**2 + 20**2 + 30**2 + 40**2) / 4), abs=1e-4)
    assert run.score("endonerf").numbers["psnr"] - scores["psnr"] == pytest.approx(-10 * math.log10(0.5))


def test_crops_cut_rows_below_and_columns_on_the_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.split(NAMES, ())
    for name in NAMES:
        image = load_maps(run.logs / "render", "left", name)["rgb"]
        image[30:, :24] = GREY + 60  # only what is cut off is as bad as this
        run.change("render", name, rgb=image)
    bad = run.score("endogs").numbers["psnr"]
    monkeypatch.setattr(named, "ROWS", Crop(rows=30))
    assert run.score("endogs").numbers["psnr"] == pytest.approx(db((10**2 + 20**2 + 30**2 + 40**2) / 4), abs=1e-4)
    assert bad < run.score("endogs").numbers["psnr"]
    monkeypatch.setattr(named, "COLUMNS", Crop(columns=8))
    run.hold_out(*ODD)
    assert run.score("forplane").numbers["tissue_share"] == pytest.approx(16 / 40)


def test_forplane_on_all_frames_takes_the_mean_of_five(run: Run) -> None:
    run.split(NAMES, ())
    scores = run.score("forplane")
    assert scores.n_frames == 5
    assert scores.numbers["psnr"] == pytest.approx(np.mean([db(off**2 / 2) for off in OFF.values()]), abs=1e-4)
    assert scores.numbers["psnr_tissue"] == pytest.approx(np.mean([db(off**2) for off in OFF.values()]), abs=1e-4)


def test_forplane_on_odd_frames_loses_forty_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.hold_out(*ODD)
    with pytest.raises(Refused, match="8 x 36 px are smaller than the window"):
        run.score("forplane")
    monkeypatch.setattr(named, "COLUMNS", Crop(columns=12))
    scores = run.score("forplane")
    assert scores.n_frames == 2
    assert scores.numbers["psnr"] == pytest.approx((db(10**2 / 3) + db(30**2 / 3)) / 2, abs=1e-4)
    expected = np.mean([ssim("zero_padded", masked_pair(name, slice(12, None))) for name in ODD])
    assert scores.numbers["ssim"] == pytest.approx(expected, abs=1e-6)


def test_endosurf(run: Run) -> None:
    run.hold_out(*EIGHTH)
    truth = plane_mm()
    run.change("render", "b", depth_mm=truth + np.float32(2.5))
    scores = run.score("endosurf")
    assert scores.numbers["psnr"] == pytest.approx(db(10**2), abs=1e-4)
    assert scores.numbers["ssim"] == pytest.approx(ssim("unpadded", masked_pair("b")), abs=1e-6)
    assert scores.numbers["depth"]["nerf"] == {
        "rmse_mm": pytest.approx(2.5, abs=1e-5),
        "coverage": 1.0,
        "n_frames": 1,
    }
    # 70 to 90 mm over 48 columns: the 3 % quantile lies in the second column, 99.5 % in the last; 2 to 23 count
    counted = truth[0, 2:24]
    off = math.sqrt(np.mean((0.005 * counted) ** 2))
    assert scores.numbers["depth"]["filter"]["rmse_mm"] == pytest.approx(off, abs=1e-5)
    assert scores.left_out["geometry_mm"] == "no mesh was exported"


def test_geometry_of_endosurf_against_brute_force(run: Run) -> None:
    run.hold_out(*EIGHTH)
    rng = np.random.default_rng(4)
    vertices = rng.uniform([-30, -20, 65], [30, 20, 95], (200, 3))
    one = np.ones(len(vertices))
    normals, colours = np.tile([0.0, 0, 1], (200, 1)), np.zeros((200, 3), np.uint8)
    faces = np.arange(198)[:, None] + np.array([0, 1, 2])
    write_ply(run.logs / "export" / "mesh.ply", vertices, normals, colours, one, [], faces)
    written = vertices.astype(np.float32)
    points = []
    for row in range(HEIGHT):
        for column in range(WIDTH - 1):  # the last column lies beyond the 99.5 % quantile
            z = float(plane_mm()[row, column])
            x, y = (column - CAMERA.cx) / CAMERA.fx * z, (row - CAMERA.cy) / CAMERA.fy * z
            points.append((x + 2.0, y, z))  # frame b stands at x = 2 mm
    apart = np.linalg.norm(np.array(points)[:, None] - written[None], axis=2).min(axis=1)
    scores = run.score("endosurf").numbers
    assert scores["geometry_mm"] == pytest.approx(apart.mean(), abs=1e-4)


def test_endogaussian(run: Run) -> None:
    run.hold_out(*EIGHTH)
    truth = plane_mm()
    run.change("render", "b", depth_mm=truth + np.float32(2.5))
    scores = run.score("endogaussian").numbers
    assert scores["psnr"] == pytest.approx(db(10**2 / 2), abs=1e-4)
    assert scores["psnr_tissue"] == pytest.approx(db(10**2), abs=1e-4)
    low, high = np.percentile(truth, [3, 99.8])
    total = 0
    for value in truth[:, : WIDTH // 2].ravel():
        total += (int(value + 2.5) - int(min(max(float(value), low), high))) ** 2
    assert scores["depth"]["nerf"]["rmse_mm"] == pytest.approx(math.sqrt(total / truth.size), abs=1e-6)
    assert scores["depth"]["nerf"]["folded"] == 0


def test_nerfingmvs_finds_nothing_at_less_than_100_mm(run: Run) -> None:
    with pytest.raises(Refused, match=r"no true depth of 0\.1 to 20 m"):
        run.score("nerfingmvs")


def test_nerfingmvs_farther_away(run: Run) -> None:
    for name in NAMES:
        np.save(run.example.data / "l" / "depth" / f"{name}.npy", plane_mm() * 3)
        run.change("render", name, depth_mm=plane_mm())
    scores = run.score("nerfingmvs")
    assert scores.numbers["depth"]["nerf"]["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert scores.n_frames == 3, "training frames"
    assert scores.numbers["n_colour_frames"] == 2, "held-out frames"
    squares = [(OFF[name] ** 2 + 150**2) / 2 for name in ODD]  # the whole frame, nothing masked
    assert scores.numbers["psnr"] == pytest.approx(np.mean([db(value) for value in squares]), abs=1e-4)


def test_upstream_legacy_is_never_comparable(run: Run) -> None:
    found = run.record("upstream_legacy")
    assert found["comparable"] is False
    assert "ramp" in found["doubts"][0]
    assert found["depth"]["nerf"]["abs_rel"] == pytest.approx(0, abs=1e-9)
    assert found["depth"]["prior"]["abs_rel"] > 0
    assert found["n_frames"] == 3


def test_afsfm_wants_a_list_of_held_out_frames(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="--afsfm_frames"):
        run.score("afsfm")
    path = tmp_path / "frames.txt"
    path.write_text("b\nd\n")
    run.example.options = replace(run.example.options, afsfm_frames=str(path))
    scores = run.score("afsfm")
    assert scores.n_frames == 2
    assert scores.numbers["depth"]["nerf"]["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert scores.numbers["depth"]["filter"]["abs_rel"] == pytest.approx(0, abs=1e-6), "any scale is forgiven"
    assert run.record("afsfm")["comparable"] is True
    path.write_text("a\nb\n")
    with pytest.raises(Refused, match="did not hold out 1: a"):
        run.score("afsfm")


def test_afsfm_doubts_a_list_of_which_frames_lack_truth(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "frames.txt"
    path.write_text("b\nd\n")
    run.example.options = replace(run.example.options, afsfm_frames=str(path))
    (run.example.data / "l" / "depth" / "d.npy").unlink()
    found = run.record("afsfm")
    assert (found["n_frames"], found["comparable"]) == (1, False)
    assert found["doubts"] == ["1 of the 2 frames of the list have no true depth"]


@pytest.mark.parametrize("name", ["endonerf", "endogs"])
def test_a_run_that_held_frames_out_is_refused_by_those_that_train_on_all(run: Run, name: str) -> None:
    with pytest.raises(Refused, match="this run held 2 of 5 out"):
        run.score(name)


@pytest.mark.parametrize("name", ["endosurf", "endogaussian"])
def test_a_run_on_all_frames_is_refused_by_those_that_hold_out(run: Run, name: str) -> None:
    run.split(NAMES, ())
    with pytest.raises(Refused, match="trained on all frames"):
        run.score(name)


def test_frames_without_a_render_are_a_refusal(run: Run) -> None:
    run.split(NAMES, ())
    map_path(run.logs / "render", "left", "c").unlink()
    with pytest.raises(Refused, match="no render of 1 of the 4 frames it scores: c"):
        run.score("endonerf")


def test_arbitrary_units_leave_out_what_needs_millimetres(run: Run) -> None:
    run.metrics = {"metric": False}
    run.hold_out(*EIGHTH)
    for name in ("endosurf", "endogaussian"):
        scores = run.score(name)
        assert "depth" not in scores.numbers
        assert "arbitrary units, not mm" in scores.left_out["depth"]
        assert scores.numbers["psnr"] > 0
    assert "arbitrary units" in run.score("endosurf").left_out["geometry_mm"]
    run.hold_out(*ODD)
    assert "depth" in run.score("upstream_legacy").numbers, "one median ratio needs no unit"
    scaled = {"abs_rel": 0.01, "coverage": 1.0, "n_valid_px": 5, "n_frames": 2}
    run.metrics["depth"] = {"nerf": {"test": {"left": {"tissue": {"median_scaled": scaled}}}}}
    assert run.score("default").numbers["depth"]["nerf"]["abs_rel"] == 0.01
    assert "median-scaled" in run.score("default").left_out["raw depth"]


def test_depth_beyond_eight_bits_is_left_out(run: Run) -> None:
    run.hold_out(*EIGHTH)
    np.save(run.example.data / "l" / "depth" / "b.npy", plane_mm() * 4)
    assert "360 mm does not fit into 8 bits" in run.score("endogaussian").left_out["depth"]


def test_without_truth_colour_is_scored_alone(run: Run) -> None:
    run.hold_out(*EIGHTH)
    for path in (run.example.data / "l" / "depth").iterdir():
        path.unlink()
    assert run.score("endosurf").left_out["depth"] == "there is no true depth"
    assert "no true depth" in run.score("endogaussian").left_out["depth"]
    with pytest.raises(Refused, match="has true depth"):
        run.score("upstream_legacy")


def test_missing_predictions_and_smaller_images_are_not_comparable(run: Run) -> None:
    run.hold_out(*EIGHTH)
    assert run.record("endosurf")["comparable"] is True
    holes = plane_mm()
    holes[:, 4:8] = np.nan
    run.change("filter", "b", depth_mm=holes)
    found = run.record("endosurf")
    assert found["depth"]["filter"]["coverage"] == pytest.approx(18 / 22)
    assert found["depth"]["filter"]["comparable"] is False
    assert "comparable" not in found["depth"]["nerf"]
    assert found["comparable"] is True, "its colour and the field's depth are"
    shown = page.console({"protocols": {"endosurf": found}, "protocols_refused": {}})
    assert "endosurf  no          filter" in shown
    assert "endosurf  yes         nerf" in shown
    assert "endosurf: filter not comparable" in shown
    run.change("render", "b", depth_mm=holes)
    assert run.record("endosurf")["comparable"] is False
    assert "99%" in run.record("endosurf")["doubts"][0]
    path = run.logs / "scene" / "frames.json"
    write_json(path, read_json(path) | {"factor": 2})
    assert "2 times smaller" in run.record("endogaussian")["doubts"][-1]


def test_lpips_sees_whole_masked_images_in_the_range_of_each_code(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool, Pair]] = []

    class Counted(Lpips):
        def distance(self, image: Any, reference: Any, *, rescaled: bool = True) -> float:
            seen.append((self.net.name, rescaled, Pair(image, reference, np.zeros(0, bool))))
            return 0.25

    monkeypatch.setattr(ScoredRun, "lpips", lambda _, net: (Counted(net), ""))
    run.split(NAMES, ())
    assert run.score("endonerf").numbers["lpips"] == 0.25
    assert [words[:2] for words in seen] == [(ALEX.name, False)] * 4
    np.testing.assert_allclose(seen[0][2].rendered, masked_pair("b").rendered)
    run.hold_out(*EIGHTH)
    seen.clear()
    run.score("endosurf")
    run.score("endogaussian")
    assert [words[:2] for words in seen] == [(VGG.name, True), (ALEX.name, True)]


def test_without_weights_lpips_is_left_out_with_the_reason(run: Run) -> None:
    run.hold_out(*EIGHTH)
    scores = run.score("endosurf")
    assert "lpips" not in scores.numbers
    assert "vgg16-397923af.pth" in scores.left_out["lpips"]
    assert "alexnet" in run.score("endogaussian").left_out["lpips"]


def test_default_without_held_out_frames_is_not_comparable(run: Run) -> None:
    run.split(NAMES, ())
    run.metrics["rgb"] = {"train": {"left": {"tissue": {"psnr": 30.0, "n_frames": 5}}}}
    found = run.record("default")
    assert (found["psnr"], found["comparable"]) == (30.0, False)
    assert found["split"] == "trained on what it is scored on"
    run.metrics = {"metric": True}
    with pytest.raises(Refused, match="neither a render nor true depth"):
        run.score("default")


def test_equal_images_have_no_psnr(run: Run) -> None:
    run.hold_out(*EIGHTH)
    run.change("render", "b", rgb=np.full((HEIGHT, WIDTH, 3), GREY, np.uint8))
    scores = run.score("endogaussian")
    assert "psnr" not in scores.numbers
    assert "agree exactly" in scores.left_out["psnr"]
    assert scores.numbers["ssim"] == pytest.approx(1)


def test_the_stage_writes_what_was_scored_and_what_was_refused(run: Run) -> None:
    run.example.evaluate()
    out = run.logs / "evaluation"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["protocol"] == "default"
    assert list(metrics["protocols"]) == ["default", "upstream_legacy"]
    assert list(metrics["protocols_refused"]) == [
        "endonerf", "endosurf", "endogaussian", "endogs", "forplane", "afsfm", "nerfingmvs",
    ]  # fmt: skip
    default = metrics["protocols"]["default"]
    assert default["psnr"] == metrics["rgb"]["test"]["left"]["tissue"]["psnr"]
    raw = metrics["depth"]["filter"]["test"]["left"]["tissue"]["raw"]
    assert default["depth"]["filter"]["abs_rel"] == raw["abs_rel"]
    assert (default["n_frames"], default["comparable"]) == (2, True)
    table = (out / "protocols.md").read_text()
    assert "| upstream_legacy | no |" in table
    assert "endosurf: refused. It holds out b; this run holds out b, d." in table
    assert (
        r"\caption{One run under the evaluation protocols of the field: Depth}"
        in (out / "protocols.tex").read_text()
    )
    said = "scored under default, upstream_legacy; refused, with the reason, under endonerf"
    assert said in (out / "table.md").read_text()


def test_protocols_can_be_chosen_or_left_out(run: Run) -> None:
    run.example.options = replace(run.example.options, protocols="upstream_legacy,endosurf")
    run.example.evaluate()
    metrics = read_json(run.logs / "evaluation" / "metrics.json")
    assert (list(metrics["protocols"]), list(metrics["protocols_refused"])) == (["upstream_legacy"], ["endosurf"])
    (run.logs / "evaluation" / "protocols.md").unlink()
    run.example.options = replace(run.example.options, protocols="none")
    run.example.evaluate()
    assert "protocols" not in read_json(run.logs / "evaluation" / "metrics.json")
    assert not (run.logs / "evaluation" / "protocols.md").exists()
    assert "protocols.md" not in (run.logs / "evaluation" / "table.md").read_text()


def test_unknown_protocols_and_lists_are_refused_before_any_work(run: Run, tmp_path: Path) -> None:
    options = run.example.options
    with pytest.raises(InputError, match="endosurff: no such protocol") as caught:
        stage.check(replace(options, protocols="endosurff"))
    assert caught.value.do == "say endosurf"
    (tmp_path / "frames.txt").write_text("nowhere\n")
    with pytest.raises(InputError, match="does not have"):
        stage.check(replace(options, afsfm_frames=str(tmp_path / "frames.txt")))
    with pytest.raises(InputError, match="--lpips_vgg_backbone"):
        check(replace(options, lpips_vgg_backbone=str(tmp_path / "nowhere.pth")))
    assert chosen(replace(options, protocols="endogs, default")) == ["default", "endogs"]
    assert files(replace(options, afsfm_frames="list.txt")) == [Path("list.txt")]
    assert files(replace(options, afsfm_frames="list.txt", protocols="none")) == []


def test_nothing_is_computed_twice(run: Run) -> None:
    run.split(NAMES, ())
    one = run.scored_run()
    assert (one.once("key", lambda: 7), one.once("key", lambda: 8)) == (7, 7)
    found = score_protocols(one, ["endonerf", "endogs", "forplane"])
    assert set(found["protocols"]) == {"endonerf", "endogs", "forplane"}
    assert score_protocols(one, []) == {}


def test_the_command_prints_the_table_and_touches_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.example.evaluate()
    before = {path: path.stat().st_mtime_ns for path in run.logs.rglob("*")}
    assert main([str(run.logs)]) == 0
    shown = capsys.readouterr().out
    metrics = read_json(run.logs / "evaluation" / "metrics.json")
    assert shown.rstrip() == page.console(metrics).rstrip()
    assert max(map(len, shown.splitlines())) <= 100
    frames = run.example.data / "list.txt"
    frames.write_text("b\n")
    assert main([str(run.logs), "--protocol", "afsfm", "--frames", str(frames)]) == 0
    shown = capsys.readouterr().out
    assert "afsfm     yes         nerf" in shown
    assert {path: path.stat().st_mtime_ns for path in run.logs.rglob("*")} == before


def test_the_widest_tables_fit_the_console() -> None:
    colour = {"psnr_of": "masked frame, by frame", "psnr": 100.0, "psnr_tissue": 100.0, "ssim": 1.0, "lpips": 1.0}
    errors = {"abs_rel": 99.0, "rmse": 1000.0, "rmse_log": 9.0} | dict.fromkeys(("a1", "a2", "a3"), 1.0)
    shares = {"coverage": 1.0, "kept": 1.0, "tissue_share": 1.0, "sq_rel": 1234.5}
    depth = {"filter": {**errors, **shares, "n_frames": 1000}}
    scores = {**colour, **shares, "depth": depth, "n_frames": 1000, "split": "all", "comparable": False}
    shown = page.console({"protocols": {"upstream_legacy": scores}, "protocols_refused": {}}).splitlines()
    assert max(map(len, shown)) <= 100
    assert shown[1].split()[-4:] == ["on", "tissue", "SSIM", "LPIPS"]
    assert shown[5].split()[-3:] == ["covered", "kept", "frames"]
    assert shown[6].split()[-3:] == ["100.0%", "100.0%", "1000"]


def test_the_command_refuses_a_run_that_has_changed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run.logs)]) == 2
    assert "has no finished evaluation" in capsys.readouterr().err
    run.example.evaluate()
    stamp = run.logs / "render" / "stamp.json"
    write_json(stamp, read_json(stamp) | {"hash": "another"})
    assert main([str(run.logs)]) == 2
    assert "stages that have changed since: render" in capsys.readouterr().err
    assert main([str(run.logs), "--protocol", "endo"]) == 2


def test_the_command_writes_splits(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    data = run.example.data
    assert main(["--write_split", "endosurf", str(data)]) == 0
    assert (data / "test.txt").read_text() == "b\n"
    assert "4 training frames, 1 held out" in capsys.readouterr().out
    assert main(["--write_split", "endonerf", str(data)]) == 2
    assert main(["--write_split", "endonerf", str(data), "--overwrite"]) == 0
    assert ((data / "train.txt").read_text().split(), (data / "test.txt").read_text()) == (list(NAMES), "")
    frames = data / "list.txt"
    frames.write_text("c\n")
    assert main(["--write_split", "afsfm", str(data), "--frames", str(frames), "--overwrite"]) == 0
    assert (data / "test.txt").read_text() == "c\n"
    for name in ("afsfm", "nerfingmvs", "upstream_legacy"):
        assert main(["--write_split", name, str(data), "--overwrite"]) == 2
    with pytest.raises(SystemExit):
        main([])
