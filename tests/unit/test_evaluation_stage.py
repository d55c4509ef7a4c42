"""The evaluation stage on a handmade run: four frames of 16 x 12, two eyes, every number worked out by hand."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import stage
from evaluation.depth_metrics import ERRORS
from evaluation.image_metrics import ssim_map, unit_range
from evaluation.options import EvaluationOptions
from utils.artifacts import load_maps, map_path, read_json, save_maps, write_json
from utils.errors import InputError, NotApplicable
from utils.geometry import rigid
from utils.images import write_rgb
from utils.scene import Scene
from utils.types import Camera, Rig, Side

HEIGHT, WIDTH = 12, 16
CAMERA = Camera(fx=20.0, fy=20.0, cx=7.5, cy=5.5, width=WIDTH, height=HEIGHT)
RIG = Rig(CAMERA, CAMERA, rigid(np.eye(3), np.array([-4.0, 0.0, 0.0])))
NAMES = ("a", "b", "c", "spare")  # spare is in neither list
TRAIN, TEST = ("a", "b"), ("c",)
SIDES: tuple[Side, ...] = ("left", "right")
FACTOR = {"prior": 1.02, "render": 1.05, "filter": 1.10}  # prediction / truth on tissue
GREY = 100
STAGES = ("poses", "matches", "stereo", "prior", "nerf", "render", "filter")


def tissue() -> np.ndarray:
    inside = np.zeros((HEIGHT, WIDTH), dtype=bool)
    inside[:, :8] = True
    return inside


def highlight() -> np.ndarray:
    inside = np.zeros((HEIGHT, WIDTH), dtype=bool)
    inside[0] = True
    return inside


def truth_mm(side: Side, name: str) -> np.ndarray:
    start = 40.0 + 10.0 * NAMES.index(name) + (5.0 if side == "right" else 0.0)
    return np.linspace(start, start + 20.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.float32)


def rendered() -> np.ndarray:
    """Grey + 10 on tissue, + 51 on its highlight, + 102 outside."""
    image = np.full((HEIGHT, WIDTH, 3), GREY + 10, np.uint8)
    image[highlight()] = GREY + 51
    image[~tissue()] = GREY + 102
    return image


def stamp(folder: Path, seconds: float, memory: float, skipped: str | None = None) -> None:
    record = {"stage": folder.name, "seconds": seconds, "peak_memory_mb": memory, "skipped": skipped}
    write_json(folder / "stamp.json", record)


class Run:
    """A run on disk."""

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.logs = root, root / "data", root / "logs"
        self.options = EvaluationOptions(datadir=str(self.data))
        images = {}
        for side in SIDES:
            for name in NAMES:
                path = self.data / side[0] / "images" / f"{name}.png"
                write_rgb(path, np.full((HEIGHT, WIDTH, 3), GREY, np.uint8))
                images[f"{side}_{name}"] = str(path)
                self.write_truth(side, name, truth_mm(side, name))
                save_maps(self.logs / "scene" / "masks", side, name, tissue=tissue(), highlight=highlight())
        scene = Scene(self.logs / "scene", RIG, NAMES, TRAIN, TEST, SIDES, images)
        lens = {"camera": asdict(CAMERA), "distortion": []}
        scene.save({"lenses": dict.fromkeys(SIDES, lens)})
        stamp(self.logs / "scene", 1.0, 100.0)
        for index, name in enumerate(STAGES):
            stamp(self.logs / name, 2.0 + index, 200.0 + index)
        self.write_maps()
        self.write_report(metric=True, test_poses="poses of test frames come from a file")

    def write_truth(self, side: Side, name: str, depth_mm: np.ndarray) -> None:
        path = self.data / side[0] / "depth" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, depth_mm)

    def write_maps(self) -> None:
        for side in SIDES:
            for name in NAMES:
                for folder, factor in FACTOR.items():
                    depth_mm = truth_mm(side, name) * np.where(tissue(), factor, 3.0).astype(np.float32)
                    extra: dict[str, Any] = {}
                    if folder == "render":
                        extra = {"rgb": rendered(), "opacity": np.ones((HEIGHT, WIDTH), np.float32)}
                    save_maps(self.logs / folder, side, name, depth_mm=depth_mm, **extra)

    def write_report(self, **report: Any) -> None:
        known = {"n_registered": 4, "n_frames": 4, "reprojection_px": 0.5}
        write_json(self.logs / "poses" / "report.json", known | report)

    def change(self, folder: str, side: Side, name: str, **maps: np.ndarray) -> None:
        save_maps(self.logs / folder, side, name, **(load_maps(self.logs / folder, side, name) | maps))

    def skip(self, folder: str, reason: str) -> None:
        for path in (self.logs / folder).iterdir():
            path.unlink()
        stamp(self.logs / folder, 0.1, 9999.0, reason)

    def evaluate(self) -> dict[str, Any]:
        out = self.logs / "evaluation"
        self.summary = stage.run(
            self.options, out=out, scene=self.logs / "scene", **{name: self.logs / name for name in STAGES}
        )
        text = (out / "metrics.json").read_text()
        assert not any(word in text for word in ("NaN", "Infinity", "null"))
        return dict(json.loads(text))

    def per_frame(self) -> list[dict[str, str]]:
        with open(self.logs / "evaluation" / "per_frame.csv", newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    return Run(tmp_path)


def test_metrics_have_the_schema_and_the_numbers(run: Run) -> None:
    metrics = run.evaluate()
    assert list(metrics) == [
        "metric", "protocol", "depth", "rgb", "poses", "runtime_s", "peak_memory_mb", "lpips_note", "notes",
        "protocols", "protocols_refused",
    ]  # fmt: skip
    assert (metrics["metric"], metrics["protocol"]) == (True, "default")
    for method, factor in (("prior", 1.02), ("nerf", 1.05), ("filter", 1.10)):
        for split, frames in (("train", 2), ("test", 1)):
            for side in SIDES:
                raw = metrics["depth"][method][split][side]["tissue"]["raw"]
                assert set(raw) == {*ERRORS, "coverage", "n_valid_px", "n_frames"}
                assert raw["abs_rel"] == pytest.approx(factor - 1, abs=1e-6)
                assert raw["rmse_log"] == pytest.approx(math.log(factor), abs=1e-6)
                assert (raw["coverage"], raw["n_valid_px"], raw["n_frames"]) == (1.0, 96 * frames, frames)
                assert isinstance(raw["n_valid_px"], int)
                scaled = metrics["depth"][method][split][side]["tissue"]["median_scaled"]
                assert scaled["abs_rel"] == pytest.approx(0.0, abs=1e-6)
                full = metrics["depth"][method][split][side]["full"]["raw"]
                assert full["abs_rel"] == pytest.approx((factor - 1 + 2.0) / 2, abs=1e-6)
                assert full["a3"] == 0.5
    assert metrics["poses"] == {"n_registered": 4, "n_frames": 4, "reprojection_px": 0.5, "metric": True}


def test_a_warning_of_the_motion_is_the_first_note(run: Run) -> None:
    motion = {"camera": "stands", "tissue": "moves", "eyes": 2, "seen": "the tissue moves"}
    write_json(run.logs / "poses" / "motion.json", motion | {"warning": "the tissue moves: not valid"})
    metrics = run.evaluate()
    assert metrics["motion"] == {"camera": "stands", "tissue": "moves", "eyes": 2}
    assert metrics["notes"][0] == "warning: the tissue moves: not valid"
    assert "- warning: the tissue moves: not valid." in (run.logs / "evaluation" / "table.md").read_text()
    stamp(run.logs / "poses", 0.1, 9.0, "--poses none")  # nothing was made of several frames
    assert run.evaluate()["notes"][0] == "motion: the tissue moves"


def test_motion_that_suits_a_field_takes_no_line_and_an_unknown_one_does(run: Run) -> None:
    motion = {"camera": "moves", "tissue": "stands", "eyes": 2, "seen": "so it moves", "warning": ""}
    write_json(run.logs / "poses" / "motion.json", motion)
    assert not [note for note in run.evaluate()["notes"] if "moves" in note]
    write_json(run.logs / "poses" / "motion.json", motion | {"camera": "unknown", "seen": "too few points"})
    assert run.evaluate()["notes"][0] == "motion: too few points"


def test_colour_of_every_region_by_hand(run: Run) -> None:
    regions = run.evaluate()["rgb"]["test"]["right"]
    squared = {"tissue_no_highlight": 10**2, "tissue": (11 * 10**2 + 51**2) / 12}
    # the highlight crosses the whole picture, what lies outside tissue is 102 off everywhere
    squared["full"] = (squared["tissue"] + 102**2) / 2
    for region, mean in squared.items():
        assert regions[region]["psnr"] == pytest.approx(10 * math.log10(255**2 / mean))
        assert regions[region]["n_frames"] == 1
        assert "lpips" not in regions[region]
    similarity = ssim_map(unit_range(rendered()), unit_range(np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)))
    assert regions["tissue"]["ssim"] == pytest.approx(similarity[:, :8].mean())
    assert regions["full"]["ssim"] == pytest.approx(similarity.mean())


def test_frames_in_neither_list_are_not_scored(run: Run) -> None:
    run.change("filter", "left", "spare", depth_mm=np.full((HEIGHT, WIDTH), 1e5, np.float32))
    metrics = run.evaluate()
    assert "spare" not in {row["frame"] for row in run.per_frame()}
    assert metrics["depth"]["filter"]["test"]["left"]["tissue"]["median_scaled"]["abs_rel"] < 1e-5


def test_per_frame_rows_and_their_mean(run: Run) -> None:
    run.change("prior", "left", "a", depth_mm=truth_mm("left", "a") * np.float32(1.2))
    metrics = run.evaluate()
    rows = run.per_frame()
    views, alignments = 3 * 2, 2
    assert len(rows) == views * (3 * 2 * alignments + 3)
    chosen = {
        row["frame"]: float(row["abs_rel"])
        for row in rows
        if (row["method"], row["split"], row["side"], row["region"], row["alignment"])
        == ("prior", "train", "left", "tissue", "raw")
    }
    assert chosen == {"a": pytest.approx(0.2, abs=1e-6), "b": pytest.approx(0.02, abs=1e-6)}
    mean = metrics["depth"]["prior"]["train"]["left"]["tissue"]["raw"]["abs_rel"]
    assert mean == pytest.approx((0.2 + 0.02) / 2, abs=1e-6)
    assert all(row["psnr"] == "" for row in rows if row["method"] != "rgb")
    assert all(row["abs_rel"] == row["alignment"] == "" for row in rows if row["method"] == "rgb")


def test_one_ratio_for_all_frames_and_eyes_of_a_method(run: Run) -> None:
    """A ratio per frame or eye would make every error zero; one for the run leaves the drift to be seen."""
    for name, factor in (("a", 0.7), ("b", 0.8), ("c", 0.9)):
        for side in SIDES:
            run.change("prior", side, name, depth_mm=truth_mm(side, name) * np.float32(factor))
    metrics = run.evaluate()
    everything = [
        (truth_mm(side, name)[tissue()], f) for name, f in (("a", 0.7), ("b", 0.8), ("c", 0.9)) for side in SIDES
    ]
    ratio = np.median(np.concatenate([t for t, _ in everything])) / np.median(
        np.concatenate([t * np.float32(f) for t, f in everything])
    )
    found = metrics["depth"]["prior"]["test"]["right"]["tissue"]["median_scaled"]["abs_rel"]
    assert found == pytest.approx(abs(ratio * 0.9 - 1), abs=1e-6)
    assert found > 0.01
    assert f"prior {ratio:.6g}" in " ".join(metrics["notes"])


def test_every_stereo_source_is_scored_apart(run: Run) -> None:
    for side in SIDES:
        for name in NAMES:
            save_maps(run.logs / "stereo" / "pam", side, name, depth_mm=1.5 * truth_mm(side, name))
    metrics = run.evaluate()
    assert set(metrics["depth"]) == {"prior", "nerf", "filter"}
    scores = metrics["depth_sources"]["pam"]["test"]["left"]["tissue"]
    assert scores["raw"]["abs_rel"] == pytest.approx(0.5)
    assert scores["median_scaled"]["abs_rel"] == pytest.approx(0.0, abs=1e-6)
    assert "| pam | test | left | raw |" in (run.logs / "evaluation" / "table.md").read_text()


def test_a_constant_scale_changes_raw_errors_alone(run: Run) -> None:
    before = run.evaluate()["depth"]["filter"]["test"]["left"]["tissue"]
    for side in SIDES:
        for name in NAMES:
            depth_mm = load_maps(run.logs / "filter", side, name)["depth_mm"]
            run.change("filter", side, name, depth_mm=depth_mm * np.float32(1.7))
    after = run.evaluate()["depth"]["filter"]["test"]["left"]["tissue"]
    assert after["raw"]["abs_rel"] > before["raw"]["abs_rel"] + 0.5
    assert after["median_scaled"] == pytest.approx(before["median_scaled"], abs=1e-5)


def test_hiding_bad_pixels_is_seen_in_the_coverage(run: Run) -> None:
    depth_mm = truth_mm("left", "c") * np.float32(1.10)
    depth_mm[:6] = np.nan
    depth_mm[6] *= 0.0
    run.change("filter", "left", "c", depth_mm=depth_mm)
    raw = run.evaluate()["depth"]["filter"]["test"]["left"]["tissue"]["raw"]
    assert raw["coverage"] == pytest.approx(5 / 12)
    assert raw["n_valid_px"] == 5 * 8
    assert "covered" in run.summary


def test_hiding_a_whole_frame_is_seen_too(run: Run) -> None:
    run.change("filter", "left", "a", depth_mm=np.full((HEIGHT, WIDTH), np.nan, np.float32))
    map_path(run.logs / "render", "left", "b").unlink()
    metrics = run.evaluate()
    for method, empty in (("filter", "a"), ("nerf", "b")):
        raw = metrics["depth"][method]["train"]["left"]["tissue"]["raw"]
        assert (raw["coverage"], raw["n_frames"]) == (0.5, 2)
        assert raw["abs_rel"] > 0
        row = next(
            row for row in run.per_frame()
            if (row["method"], row["frame"], row["side"], row["alignment"]) == (method, empty, "left", "raw")
        )  # fmt: skip
        assert (row["coverage"], row["n_valid_px"], row["abs_rel"]) == ("0", "0", "")
    notes = " ".join(metrics["notes"])
    assert "no valid pixel on the tissue of 1 views" in notes
    assert "nerf: no depth map of the left eye of train frames b" in notes
    assert "rgb: left eye of train frames b was not rendered" in notes
    assert metrics["rgb"]["train"]["left"]["full"]["n_frames"] == 1


def test_faint_rays_have_no_depth(run: Run) -> None:
    opacity = np.ones((HEIGHT, WIDTH), np.float32)
    opacity[:3], opacity[3:6] = 0.49, 0.5
    run.change("render", "left", "c", opacity=opacity)
    tissue_scores = run.evaluate()["depth"]["nerf"]["test"]["left"]["tissue"]
    assert tissue_scores["raw"]["coverage"] == pytest.approx(9 / 12)


def test_without_metric_scale_raw_depth_is_left_out_with_the_reason(run: Run) -> None:
    run.write_report(metric=False)
    metrics = run.evaluate()
    assert metrics["metric"] is False
    assert set(metrics["depth"]["nerf"]["test"]["left"]["tissue"]) == {"median_scaled"}
    assert "arbitrary units, not mm" in metrics["notes"][0]
    assert "arbitrary units, not mm" in run.summary
    for name in ("table.md", "table.tex"):
        assert "arbitrary units, not mm" in (run.logs / "evaluation" / name).read_text()
    assert {row["alignment"] for row in run.per_frame()} == {"median_scaled", ""}


def test_how_test_poses_were_found_is_said(run: Run) -> None:
    assert "poses of test frames come from a file" in run.evaluate()["notes"]
    assert "come from a file" in (run.logs / "evaluation" / "table.md").read_text()
    run.write_report(metric=True)
    assert any("estimated with the test images" in note for note in run.evaluate()["notes"])


def test_a_single_pair_has_neither_poses_nor_renders(run: Run) -> None:
    for name in ("poses", "nerf", "render", "filter"):
        run.skip(name, f"one pair alone: no {name}")
    metrics = run.evaluate()
    assert set(metrics["depth"]) == {"prior"}
    assert metrics["metric"] is True
    assert "poses" not in metrics
    assert "rgb" not in metrics
    assert "lpips_note" in metrics
    notes = " ".join(metrics["notes"])
    assert "stage render was skipped: one pair alone: no render" in notes
    assert "test images" not in notes
    assert set(metrics["runtime_s"]) == {"scene", "matches", "stereo", "prior", "evaluation"}
    assert metrics["peak_memory_mb"] < 9999


def test_a_left_only_run_without_poses_is_not_metric(run: Run) -> None:
    run.skip("poses", "no poses")
    record = read_json(run.logs / "scene" / "rig.json") | {"right": None, "right_from_left": None}
    write_json(run.logs / "scene" / "rig.json", record)
    frames = read_json(run.logs / "scene" / "frames.json") | {"sides": ["left"]}
    write_json(run.logs / "scene" / "frames.json", frames)
    metrics = run.evaluate()
    assert metrics["metric"] is False
    assert set(metrics["rgb"]["test"]) == {"left"}


def test_without_truth_there_is_no_depth_block(run: Run) -> None:
    run.options = EvaluationOptions(datadir=str(run.root / "nowhere"))
    metrics = run.evaluate()
    assert "depth" not in metrics
    assert "rgb" in metrics
    assert any("no truth" in note for note in metrics["notes"])
    assert "PSNR" in run.summary


def test_truth_under_other_names_is_said(run: Run) -> None:
    for path in (run.data / "l" / "depth").iterdir():
        path.rename(path.with_name(f"frame_{path.name}"))
    metrics = run.evaluate()
    assert set(metrics["depth"]["prior"]["test"]) == {"right"}
    assert "4 truth files have the name of no frame and were not used" in metrics["notes"]


def test_truth_of_one_eye_alone_scores_that_eye(run: Run) -> None:
    for path in (run.data / "r" / "depth").iterdir():
        path.unlink()
    assert set(run.evaluate()["depth"]["prior"]["test"]) == {"left"}


def test_a_method_without_maps_of_test_frames_has_no_test_block(run: Run) -> None:
    for side in SIDES:
        map_path(run.logs / "prior", side, "c").unlink()
    metrics = run.evaluate()
    assert set(metrics["depth"]["prior"]) == {"train"}
    assert set(metrics["depth"]["nerf"]) == {"train", "test"}
    assert any("prior: no depth maps of the left eye of test frames" in note for note in metrics["notes"])


def test_runtime_and_memory_come_from_the_stamps(run: Run) -> None:
    stamp(run.logs / "nerf", 61.5, 12345.0)
    metrics = run.evaluate()
    assert metrics["runtime_s"]["scene"] == 1.0
    assert metrics["runtime_s"]["nerf"] == 61.5
    assert metrics["runtime_s"]["evaluation"] >= 0
    assert metrics["peak_memory_mb"] == 12345.0


def test_reprojection_that_is_not_a_number_is_absent(run: Run) -> None:
    (run.logs / "poses" / "report.json").write_text('{"n_registered": 2, "metric": true, "reprojection_px": NaN}')
    assert run.evaluate()["poses"] == {"n_registered": 2, "metric": True}


def test_no_lpips_gives_the_reason(run: Run) -> None:
    assert "31 px" in run.evaluate()["lpips_note"]


def test_truth_of_another_size_is_refused(run: Run) -> None:
    run.write_truth("left", "a", np.ones((5, 5)))
    with pytest.raises(InputError, match="another size"):
        run.evaluate()
    with pytest.raises(InputError, match="another size"):
        stage.check(run.options)


def test_check_refuses_wrong_lpips_paths_and_files_lists_what_counts(run: Run) -> None:
    stage.check(run.options)
    assert len(stage.files(run.options)) == len(NAMES) * 2
    with pytest.raises(InputError, match="--lpips_heads"):
        stage.check(replace(run.options, lpips_heads=str(run.root / "nowhere.pth")))


def test_a_demonstration_is_not_scored(run: Run) -> None:
    run.options = replace(run.options, demo=True)
    stage.check(run.options)
    assert stage.files(run.options) == []
    with pytest.raises(NotApplicable, match="--demo"):
        run.evaluate()
