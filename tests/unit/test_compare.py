"""Comparing runs: what is found, what is refused, what is left out and said."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from evaluation.bootstrap import mean_interval
from evaluation.compare import Wanted, compare_runs, compare_sets, main
from evaluation.compared_run import ComparedRun, read_compared
from evaluation.comparison import markdown
from evaluation.paired import Difference
from evaluation.scores import Row, View
from evaluation.stage import write_per_frame
from utils.artifacts import read_json, write_json
from utils.errors import InputError
from utils.geometry import rigid
from utils.scene import Scene
from utils.types import Camera, Rig, Side

CAMERA = Camera(fx=50.0, fy=50.0, cx=23.5, cy=17.5, width=48, height=36)
RIG = Rig(CAMERA, CAMERA, rigid(np.eye(3), np.array([-4.0, 0.0, 0.0])))
SIDES: tuple[Side, ...] = ("left", "right")
TEST = tuple(str(number) for number in range(1, 13))
TRAIN = ("20", "21")
HARD = np.random.default_rng(0).uniform(0.01, 0.05, len(TEST))  # some frames are harder than others, for every run

Scores = Callable[[Side, int], dict[str, float]]


def errors(factor: float) -> Scores:
    """Return what scores a run that is off by a factor has, a little noise included."""
    noise = np.random.default_rng(int(1e6 * factor)).normal(1, 0.01, (2, len(TEST)))

    def scores(side: Side, index: int) -> dict[str, float]:
        error = factor * HARD[index] * noise[SIDES.index(side), index]
        return {"abs_rel": error, "a1": 1 - error, "coverage": 1.0, "n_valid_px": 100}

    return scores


class Made:
    """A scored run, made by hand."""

    def __init__(self, root: Path, scores: Scores, *, seed: int = 0) -> None:
        self.root = root
        images = {f"{side}_{name}": f"{side}_{name}.png" for side in SIDES for name in (*TEST, *TRAIN)}
        lens = {"camera": asdict(CAMERA), "distortion": []}
        scene = Scene(root / "scene", RIG, (*TEST, *TRAIN), TRAIN, TEST, SIDES, images)
        scene.save({"hashes": {key: f"of {key}" for key in images}, "lenses": dict.fromkeys(SIDES, lens)})
        files = {"data/x/mask_l/1.png": "mask"}
        self.stamp("scene", version=2, options={"datadir": "./data/x"}, inputs={}, files=files)
        self.stamp("nerf", version=1, options={"seed": seed}, inputs={"scene": "of scene"}, files={})
        truth = {f"data/x/l/depth/{name}.png": f"truth {name}" for name in TEST} | {"heads.pth": "of heads"}
        options = {"datadir": "./data/x", "depth_png_mm": 0.01, "disparity_png_px": None}
        inputs = {"scene": "of scene", "nerf": "of nerf"}
        self.stamp("evaluation", version=3, options=options, inputs=inputs, files=truth)
        write_json(root / "evaluation" / "metrics.json", {"metric": True, "protocol": "default"})
        self.rows = [
            Row(View("test", side, name), "filter", "tissue", alignment, scores(side, index))
            for alignment in ("raw", "median_scaled")
            for index, name in enumerate(TEST)
            for side in SIDES
        ]
        self.rows += [
            Row(View("test", side, name), "rgb", "tissue", "", {"psnr": 30.0 + index, "ssim": 0.9, "lpips": 0.1})
            for index, name in enumerate(TEST)
            for side in SIDES
        ]
        self.save()

    def stamp(self, stage: str, **record: Any) -> None:
        write_json(self.root / stage / "stamp.json", record | {"hash": f"of {stage}", "skipped": None})

    def save(self) -> None:
        write_per_frame(self.root / "evaluation" / "per_frame.csv", self.rows)

    def change(self, path: str, **values: Any) -> None:
        write_json(self.root / path, read_json(self.root / path) | values)

    def drop(self, wanted: Callable[[Row], bool]) -> None:
        self.rows = [row for row in self.rows if not wanted(row)]
        self.save()

    def read(self) -> ComparedRun:
        return read_compared(self.root)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Made, Made]:
    return Made(tmp_path / "plain", errors(1.0)), Made(tmp_path / "better", errors(0.97))


def found(pair: tuple[Made, Made], metric: str = "abs_rel", **wanted: Any) -> Difference:
    comparison = compare_runs([one.read() for one in pair], Wanted(**wanted))
    (difference,) = [one for one in comparison.compared[0].differences if one.metric == metric]
    return difference


def notes(pair: tuple[Made, Made], **wanted: Any) -> str:
    return " ".join(compare_runs([one.read() for one in pair], Wanted(**wanted)).compared[0].said)


def test_a_small_shift_is_seen_in_pairs_and_not_without(pair: tuple[Made, Made]) -> None:
    difference = found(pair)
    assert difference.winner == "second"
    assert difference.interval is not None
    assert difference.interval[0] <= difference.difference <= difference.interval[1] < 0
    assert difference.difference == pytest.approx(-0.03 * HARD.mean(), rel=0.3)
    assert difference.better >= 11
    alone = [mean_interval(values) for values in (difference.first, difference.second)]
    assert alone[0] is not None
    assert alone[1] is not None
    assert alone[1][1] > alone[0][0], "the intervals of the two means overlap widely"
    assert found(pair[::-1]).winner == "first"
    assert found(pair, "a1").winner == "second"  # more is better


def test_numbers_by_hand(tmp_path: Path) -> None:
    # the left eye of the second is 0.01 better, the right one 0.03 worse
    def shifted(side: Side, index: int) -> dict[str, float]:
        return {"abs_rel": 0.1 + 0.01 * index + (-0.01 if side == "left" else 0.03), "coverage": 0.5}

    def straight(_: Side, index: int) -> dict[str, float]:
        return {"abs_rel": 0.1 + 0.01 * index, "coverage": 1.0}

    pair = Made(tmp_path / "a", straight), Made(tmp_path / "b", shifted)
    both, left = found(pair), found(pair, side="left")
    assert both.means == pytest.approx((0.155, 0.165))
    assert both.difference == pytest.approx(0.01)
    assert both.interval == pytest.approx((0.01, 0.01))
    assert (both.better, both.worse, both.winner) == (0, 12, "first")
    assert (left.better, left.worse, left.winner) == (12, 0, "second")
    assert found(pair, "coverage").difference == pytest.approx(-0.5)


def test_runs_that_only_differ_by_chance_are_not_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.002, (2, len(TEST), 2))

    def run(number: int) -> Scores:
        return lambda side, index: {
            "abs_rel": HARD[index] + noise[number, index, SIDES.index(side)],
            "coverage": 1.0,
        }

    pair = Made(tmp_path / "a", run(0)), Made(tmp_path / "b", run(1))
    assert found(pair).winner == "none"
    text = markdown(compare_runs([one.read() for one in pair], Wanted()))
    assert "no difference seen" in text
    assert "about one in twenty" in text
    assert "the same in every frame and score: rgb" in text


def test_frames_without_an_error_in_one_run_are_left_out_of_the_errors_and_counted(
    pair: tuple[Made, Made],
) -> None:
    better = pair[1]
    better.rows = [
        Row(row.view, row.method, row.region, row.alignment, {"coverage": 0.0, "n_valid_px": 0})
        if (row.method, row.view.side, row.view.name) == ("filter", "left", "3")
        else row
        for row in better.rows
    ]
    better.drop(lambda row: row.view.name == "7" and row.method == "filter")
    error, coverage = found(pair), found(pair, "coverage")
    assert error.lost == (("left", "3"), ("left", "7"), ("right", "7"))
    assert error.frames == tuple(name for name in TEST if name != "7")
    assert error.first[2] == pytest.approx(errors(1.0)("right", 2)["abs_rel"])  # its right eye alone
    views = [(side, index) for index in range(12) for side in SIDES if index != 6 and (side, index) != ("left", 2)]
    mean = np.mean([errors(1.0)(side, index)["abs_rel"] for side, index in views])  # type: ignore[arg-type]
    assert error.means[0] == pytest.approx(mean)
    assert coverage.difference == pytest.approx(-1 / 22)
    assert (
        "filter abs_rel, filter a1: without 3 views that some runs alone have: left 3, left 7, right 7"
        in notes(pair)
    )


def test_errors_over_other_pixels_are_told_of(pair: tuple[Made, Made]) -> None:
    assert "other pixels" not in notes(pair)
    better = pair[1]
    better.rows = [
        Row(row.view, row.method, row.region, row.alignment, {**row.values, "coverage": 0.8})
        if row.method == "filter"
        else row
        for row in better.rows
    ]
    better.save()
    words = "filter: errors are over other pixels, 100.0% are covered in the first, 80.0% in the second"
    assert words in notes(pair)


def test_few_frames_have_a_difference_and_no_interval(pair: tuple[Made, Made]) -> None:
    for one in pair:
        one.drop(lambda row: int(row.view.name) > 4)
    difference = found(pair)
    assert difference.interval is None
    assert difference.winner == "unknown"
    assert "fewer than 5 frames: no interval" in markdown(compare_runs([one.read() for one in pair], Wanted()))


@pytest.mark.parametrize(
    ("path", "values", "words"),
    [
        ("evaluation/metrics.json", {"protocol": "endosurf"}, "another protocol"),
        ("evaluation/stamp.json", {"version": 2}, "version of the evaluation"),
        ("scene/stamp.json", {"version": 1}, "version of the stage scene"),
        ("scene/frames.json", {"hashes": {"left_1": "another"}}, "another image"),
        ("scene/frames.json", {"hashes": {"left_x": "another"}}, "another image"),
        ("scene/frames.json", {"test": list(TEST[1:])}, "other test frames"),
        ("scene/frames.json", {"train": ["20", "1"]}, "other train frames"),
        ("scene/frames.json", {"lenses": {"left": {"distortion": [0.1]}}}, "calibration of the left images"),
        ("scene/stamp.json", {"files": {"data/x/mask_l/1.png": "new"}}, "another mask"),
        ("scene/stamp.json", {"files": {}}, "set of left masks"),
        ("scene/stamp.json", {"files": {"data/x/mask_l/2.png": "mask"}}, "set of left masks"),
        ("evaluation/metrics.json", {"metric": False}, "no millimetres"),
    ],
)
def test_runs_whose_scores_mean_different_things_are_refused(
    pair: tuple[Made, Made], path: str, values: dict[str, Any], words: str
) -> None:
    pair[1].change(path, **values)
    with pytest.raises(InputError, match=words) as refusal:
        found(pair)
    assert "better" in refusal.value.found or "better" in refusal.value.what


def test_another_truth_or_another_unit_of_it_is_refused(pair: tuple[Made, Made]) -> None:
    stamp = read_json(pair[1].root / "evaluation" / "stamp.json")
    pair[1].change("evaluation/stamp.json", files=stamp["files"] | {"data/x/l/depth/1.png": "new"})
    with pytest.raises(InputError, match="another truth file"):
        found(pair)
    pair[1].change("evaluation/stamp.json", files=stamp["files"], options=stamp["options"] | {"depth_png_mm": 0.1})
    with pytest.raises(InputError, match="--depth_png_mm"):
        found(pair)


def test_the_same_dataset_may_lie_elsewhere(pair: tuple[Made, Made]) -> None:
    stamp = read_json(pair[1].root / "evaluation" / "stamp.json")
    moved = {path.replace("data/x", "/mnt/y"): value for path, value in stamp["files"].items()}
    pair[1].change("evaluation/stamp.json", files=moved, options=stamp["options"] | {"datadir": "/mnt/y"})
    assert found(pair).winner == "second"


def test_runs_of_other_splits_are_compared_on_request_where_both_hold_out(pair: tuple[Made, Made]) -> None:
    pair[1].change("scene/frames.json", test=list(TEST[2:]), train=["1", "2", *TRAIN])
    pair[1].drop(lambda row: row.view.name in ("1", "2"))
    difference = found(pair, allow_splits=True)
    assert difference.frames == TEST[2:]
    said = notes(pair, allow_splits=True)
    assert "test frames 1, 2 in plain alone" in said
    assert "left 1" in said


def test_runs_without_millimetres_are_compared_by_one_scale(pair: tuple[Made, Made]) -> None:
    pair[1].change("evaluation/metrics.json", metric=False)
    assert found(pair, alignment="median_scaled").place[2] == "median_scaled"
    pair[0].change("evaluation/metrics.json", metric=False)
    assert found(pair).place[2] == "median_scaled"
    with pytest.raises(InputError, match="no millimetres"):
        found(pair, alignment="raw")


def test_lpips_of_other_weights_is_left_out(pair: tuple[Made, Made]) -> None:
    found(pair, "lpips")
    stamp = read_json(pair[1].root / "evaluation" / "stamp.json")
    pair[1].change("evaluation/stamp.json", files=stamp["files"] | {"heads.pth": "others"})
    with pytest.raises(ValueError, match="unpack"):
        found(pair, "lpips")
    assert "lpips is left out" in notes(pair)


def test_methods_and_eyes_of_one_run_alone_are_named(pair: tuple[Made, Made]) -> None:
    pair[1].drop(lambda row: row.method == "rgb" or row.view.side == "right")
    said = notes(pair)
    assert "not compared: rgb" in said
    assert "the left eye alone" in said


def test_what_one_run_alone_has_trained_on_is_said(pair: tuple[Made, Made]) -> None:
    assert "right eye" not in notes(pair)
    pair[0].change("evaluation/metrics.json", right_eye_held_out={"used_for": {}})
    assert "plain never trained on the right eye, the others did" in notes(pair)
    assert "right eye" not in notes(pair, side="left")


def test_all_frames_of_a_right_eye_that_trained_nothing_are_compared(pair: tuple[Made, Made]) -> None:
    for one in pair:
        one.rows = [
            Row(View("train", row.view.side, "20"), row.method, row.region, row.alignment, row.values)
            if row.view.name == "1"
            else row
            for row in one.rows
        ]
        one.rows += [
            Row(row.view, "prior", row.region, "raw", row.values) for row in one.rows if row.alignment == "raw"
        ]
        one.save()
        with pytest.raises(InputError, match="trained nothing"):
            found(pair, split="all", side="right")
        one.change("evaluation/metrics.json", right_eye_held_out={"used_for": {}})
    assert found(pair, split="all", side="right").frames == (*TEST[1:], "20")
    said = compare_runs([one.read() for one in pair], Wanted("all", "right")).compared[0]
    assert {one.place[0] for one in said.differences} == {"filter", "rgb"}, "a prior is made of its own image"
    with pytest.raises(InputError, match="trained nothing"):
        found(pair, split="all")


def test_two_trainings_are_no_two_settings(pair: tuple[Made, Made]) -> None:
    assert "another seed can differ as clearly" in markdown(compare_runs([one.read() for one in pair], Wanted()))


def test_a_run_that_is_not_finished_is_refused(pair: tuple[Made, Made], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run"):
        read_compared(tmp_path / "nowhere")
    pair[0].change("nerf/stamp.json", hash="of another training")
    with pytest.raises(InputError, match="made from an older `nerf`"):
        pair[0].read()
    (pair[1].root / "evaluation" / "stamp.json").unlink()
    with pytest.raises(InputError, match="`evaluation` is needed"):
        pair[1].read()


def test_nothing_in_common_is_refused(pair: tuple[Made, Made]) -> None:
    with pytest.raises(InputError, match="no score in common"):
        found(pair, region="full")


def sets_of(root: Path, seeds: tuple[int, ...], spread: float) -> list[list[ComparedRun]]:
    """Return runs of two settings; the second is 0.002 better in the mean, by `spread` more or less a seed."""
    shifts = np.linspace(-spread, spread, len(seeds)) - 0.002

    def shifted(by: float) -> Scores:
        return lambda side, index: {"abs_rel": errors(1.0)(side, index)["abs_rel"] + by, "coverage": 1.0}

    first = [Made(root / f"a{seed}", errors(1.0), seed=seed).read() for seed in seeds]
    second = [
        Made(root / f"b{seed}", shifted(by), seed=seed).read() for seed, by in zip(seeds, shifts, strict=True)
    ]
    return [first, second]


def test_sets_are_paired_by_their_seeds(tmp_path: Path) -> None:
    first, second = sets_of(tmp_path, (0, 1, 2), 0.0002)
    comparison = compare_sets(first, second[::-1], Wanted())
    (difference,) = [one for one in comparison.compared[0].differences if one.metric == "abs_rel"]
    assert difference.runs == pytest.approx((-0.0022, -0.002, -0.0018))
    assert difference.winner == "second"
    assert comparison.compared[0].notes[:2] == ("A is a0, a1, a2", "B is b0, b1, b2")
    assert "the spread of the seeds" in markdown(comparison)


def test_seeds_that_disagree_show_no_difference(tmp_path: Path) -> None:
    first, second = sets_of(tmp_path, (0, 1, 2), 0.004)
    comparison = compare_sets(first, second, Wanted())
    (difference,) = [one for one in comparison.compared[0].differences if one.metric == "abs_rel"]
    assert difference.difference == pytest.approx(-0.002)
    assert difference.winner == "none"  # one seed alone would be sure


def test_sets_of_other_seeds_are_refused(tmp_path: Path) -> None:
    first, second = sets_of(tmp_path, (0, 1, 2), 0.0)
    for one, other in ((first, second[:2]), (first[:1], second[:1]), ([first[0], first[0]], second[:2])):
        with pytest.raises(InputError, match="same seeds"):
            compare_sets(one, other, Wanted())


def test_the_command_writes_every_form(pair: tuple[Made, Made], tmp_path: Path, capsys: Any) -> None:
    runs, out = [str(one.root) for one in pair], tmp_path / "out"
    assert main([*runs, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| filter | abs_rel ↓ | 12 |" in printed
    assert "better better (interval excludes 0)" in printed
    record = json.loads((out / "compare.json").read_text())
    (mine,) = [one for one in record["compared"][0]["differences"] if one["score"] == "abs_rel"]
    assert mine["ci95"] == list(found(pair).interval or ())
    with open(out / "compare.csv", newline="") as file:
        rows = {row["score"]: row for row in csv.DictReader(file)}
    assert float(rows["abs_rel"]["difference"]) == pytest.approx(mine["difference"])
    assert set(rows) == {"abs_rel", "a1", "coverage", "psnr", "ssim", "lpips"}
    with open(out / "compare_frames.csv", newline="") as file:
        frames = [row for row in csv.DictReader(file) if row["score"] == "abs_rel"]
    assert np.mean([float(row["difference"]) for row in frames]) == pytest.approx(mine["difference"])
    latex = (out / "compare.tex").read_text()
    body = [line for line in latex.splitlines() if not line.startswith("%")]
    assert all("_" not in line.replace(r"\_", "") and "−" not in line and "↓" not in line for line in body)
    assert {line.count(" & ") for line in body if line.endswith(r"\\")} == {8}
    assert not list(out.glob("*.partial"))
    drawn = ElementTree.parse(out / "compare.svg")
    dots = drawn.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(dots) == 12  # abs_rel; colour is the same
    assert sum(dot.attrib["fill"] == "#0068a8" for dot in dots) == found(pair).better


def test_the_command_refuses_what_is_nothing_to_compare(pair: tuple[Made, Made], capsys: Any) -> None:
    one, other = (str(made.root) for made in pair)
    for words in ([one], [], [one, other, "--a", one], ["--a", one]):
        assert main(words) == 2
    assert "nothing to compare" in capsys.readouterr().err


def test_three_runs_are_compared_with_the_first(pair: tuple[Made, Made], tmp_path: Path) -> None:
    third = Made(tmp_path / "other" / "plain", errors(1.1))
    comparison = compare_runs([one.read() for one in (*pair, third)], Wanted())
    assert [(one.first.split("/")[-1], one.second) for one in comparison.compared] == [
        ("plain", "better"),
        ("plain", "other/plain"),
    ]
