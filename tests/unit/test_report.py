"""The report page: what it shows, what it leaves out and why, and that it obeys nothing that it shows."""

from __future__ import annotations

import base64
import html.parser
import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from evaluation import stage
from evaluation.options import EvaluationOptions
from evaluation.report import page as report
from evaluation.report.confidence import honesty, rank_correlation
from evaluation.report.frames import choose_views
from evaluation.report.pixels import Pixels, pool
from evaluation.report.verdicts import judge, sentence, share_within, verdicts
from tests.finished_run import NAMES, Example, stamp
from utils.artifacts import read_json, write_json

EVIL = "<script>alert('x')</script> & \"more\""


class Reader(html.parser.HTMLParser):
    """What a browser would find: every tag with its attributes, ids, texts; raises where tags do not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    def all(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags for key, value in attributes.items() if key == name and value]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Example:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda _: None)
        example = Example(tmp_path_factory.mktemp("report"))
        example.evaluate()
    return example


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    return Example(tmp_path)


def test_the_page_parses_and_its_anchors_lead_somewhere(finished: Example) -> None:
    reader = Reader(finished.page())
    ids = reader.all("id")
    assert len(ids) == len(set(ids))
    assert {f"#{one}" for one in ids} >= {link for link in reader.all("href") if link.startswith("#")}
    pictures = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(pictures) > 20
    assert all(one["alt"] for one in pictures)
    assert "could not be drawn" not in finished.page()


def test_nothing_is_requested_from_anywhere(finished: Example) -> None:
    reader = Reader(finished.page())
    assert all(one.startswith("data:") for one in reader.all("src"))
    assert all(one.startswith(("data:", "#")) for one in reader.all("href"))
    code = "".join(reader.scripts) + re.search(r"<style>(.*?)</style>", finished.page(), re.S)[1]  # type: ignore[index]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(|https?:", code)
    policy = next(attributes["content"] for tag, attributes in reader.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_every_picture_decodes_to_the_size_that_is_said(finished: Example) -> None:
    for tag, attributes in Reader(finished.page()).tags:
        uri = attributes.get("src") if tag == "img" else attributes.get("href") if tag == "image" else None
        if uri:
            content = np.frombuffer(base64.b64decode(uri.split(",")[1], validate=True), np.uint8)
            decoded = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
            assert decoded is not None
            assert decoded.shape[:2] == (int(attributes["height"] or 0), int(attributes["width"] or 0))


def test_the_viewer_gets_the_points_of_the_cloud(finished: Example) -> None:
    data = json.loads(Reader(finished.page()).scripts[0])
    steps = np.frombuffer(base64.b64decode(data["positions"]), "<u2").reshape(-1, 3)
    points = np.random.default_rng(1).uniform([-30, -20, 70], [30, 20, 90], (400, 3))
    low, span = points.min(0), float(np.ptp(points, axis=0).max())
    np.testing.assert_allclose(steps / 65535 * span + low, points, atol=span / 65535)
    assert len(base64.b64decode(data["colours"])) == len(base64.b64decode(data["normals"])) == 3 * data["count"]
    assert len(data["lines"]) == 2 * len(NAMES) * 8 * 6  # both eyes, eight edges, two ends


def test_words_from_files_are_shown_and_never_obeyed(fresh: Example) -> None:
    write_json(
        fresh.logs / "poses" / "report.json",
        read_json(fresh.logs / "poses" / "report.json")
        | {
            "warnings": [EVIL],
            "test_poses": EVIL,
            "scale": EVIL,
            "world": EVIL,
            "not_placed": [EVIL],
        },
    )
    stamp(fresh.logs / "stereo", EVIL)
    record = read_json(fresh.logs / "nerf" / "stamp.json")
    write_json(fresh.logs / "nerf" / "stamp.json", record | {"options": {EVIL: EVIL}, "summary": EVIL})
    (fresh.logs / "run.log").write_text(f"2026-01-01 12:00:00,000 WARNING prior: {EVIL}\n")
    plain, page = Reader(fresh.evaluate()), fresh.page()
    assert "alert" not in "".join(plain.scripts)
    assert len(plain.scripts) == 2
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;more&quot;") >= 7


def test_the_page_is_the_same_each_time_and_can_be_made_again(
    finished: Example, capsys: pytest.CaptureFixture[str]
) -> None:
    before = finished.page()
    (finished.logs / "evaluation" / "report.html").unlink()
    assert report.main([str(finished.logs)]) == 0
    assert finished.page() == before
    assert "report.html" in capsys.readouterr().out


def test_views_are_chosen_by_their_error(finished: Example) -> None:
    chosen = choose_views(finished.read())
    assert [(one.view.side, one.view.name) for one in chosen] == [("left", "b"), ("left", "d"), ("right", "d")]
    assert [one.reason.split(" ")[0] for one in chosen] == ["best", "median", "worst"]
    assert "abs_rel 0.0440" in chosen[2].reason


def test_figures_of_the_summary_are_those_of_the_run(finished: Example) -> None:
    run = finished.read()
    pixels = pool(run)
    assert pixels is not None
    found = {one.what: one for one in verdicts(run, pixels)}
    assert share_within(pixels, 0.01) == pytest.approx(0.5)  # of four views, two
    assert share_within(pixels, 0.02) == pytest.approx(0.75)
    assert found["Depth"].state == "fair"
    assert "mean error 1.90" in found["Depth"].found  # mean of ERROR
    assert found["Registration"].state == found["Reprojection"].state == found["Calibration"].state == "good"
    assert found["Colour"].state == "poor"  # grey renders of noise
    assert found["Confidence"].state == "good"
    assert sentence(list(found.values())).startswith("Poor: colour. To be looked at: depth. Good: scale")


@pytest.mark.parametrize(
    ("value", "good", "fair", "state"),
    [(0.5, 1, 2, "good"), (1.5, 1, 2, "fair"), (3, 1, 2, "poor"), (31, 30, 25, "good"), (26, 30, 25, "fair")],
)
def test_a_value_is_judged_from_the_better_end(value: float, good: float, fair: float, state: str) -> None:
    assert judge(value, good, fair) == state
    assert judge(float("nan"), good, fair) == "open"


@pytest.mark.parametrize(("stated", "words"), [(1.0, "honest"), (0.3, "too sure"), (5.0, "too careful")])
def test_normal_errors_tell_an_honest_sigma_from_others(stated: float, words: str) -> None:
    rng = np.random.default_rng(0)
    truth, size = np.full(20_000, 80.0), 20_000
    prior = truth + rng.normal(0, 1.0, size)
    judged = honesty(Pixels(truth, prior, np.full(size, stated), truth, prior, truth, prior, 1.0))
    assert judged is not None
    assert judged.words.startswith(words)
    assert judged.factor == pytest.approx(1 / stated, rel=0.03)
    if stated == 1.0:
        assert (judged.within_1, judged.within_2) == pytest.approx((0.683, 0.954), abs=0.01)
        assert judged.beyond_3 < 0.005


def test_rank_correlation_sees_order_alone() -> None:
    values = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    assert rank_correlation(values, np.exp(values)) == pytest.approx(1.0)
    assert rank_correlation(values, -values) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(values, np.ones(5)))


def test_a_static_field_is_judged_by_the_motion(fresh: Example) -> None:
    def judged(camera: str, tissue: str, warning: str) -> tuple[str, str]:
        record = {"camera": camera, "tissue": tissue, "eyes": 2, "seen": "so it moves", "warning": warning}
        write_json(fresh.logs / "poses" / "motion.json", record)
        one = {one.what: one for one in verdicts(fresh.read(), None)}["Static field"]
        return one.state, one.found

    fresh.evaluate()
    assert judged("moves", "stands", "") == ("good", "so it moves")
    assert judged("stands", "stands", "no parallax") == ("fair", "no parallax")
    assert judged("stands", "moves", "not valid") == ("poor", "not valid")
    assert judged("unknown", "unknown", "") == ("open", "so it moves")
    fresh.skip("nerf", "render", "filter", reason="every frame stands for itself")
    assert judged("stands", "moves", "not valid") == ("fair", "not valid")


def test_a_run_without_truth_says_so(fresh: Example) -> None:
    for side in "lr":
        shutil.rmtree(fresh.data / side / "depth")
    page = fresh.evaluate()
    assert "No error maps: these views have no truth." in page
    assert "nothing can tell whether the stated errors are the real ones" in page
    assert "100.0\N{NO-BREAK SPACE}% of the tissue has depth" in page
    assert "True depth" not in page
    assert "PSNR" in page


def test_one_pair_without_field_and_poses_gives_reasons(fresh: Example) -> None:
    fresh.skip("poses", "nerf", "render", "filter", reason="one pair has no motion")
    page = fresh.evaluate()
    assert "There are no camera poses: one pair has no motion." in page
    assert "No renders: one pair has no motion." in page
    assert 'data-act="cameras"' not in page
    assert "Depth: fused prior" in page
    assert "could not be drawn" not in page


def test_arbitrary_units_are_never_called_mm(fresh: Example) -> None:
    poses = read_json(fresh.logs / "poses" / "report.json")
    write_json(fresh.logs / "poses" / "report.json", poses | {"metric": False, "scale": "none known"})
    for side in "lr":
        shutil.rmtree(fresh.data / side / "depth")
    page = fresh.evaluate()
    assert "Lengths are in arbitrary units, not mm." in page
    assert "Depth, arbitrary units, not mm" in page
    assert "lengths are millimetres" not in page


def test_a_skipped_export_gives_its_reason(fresh: Example) -> None:
    fresh.skip("export", reason="there is no depth")
    page = fresh.evaluate()
    assert "There is no surface to show: stage export was skipped (there is no depth)." in page
    assert 'id="viewer"' not in page


def test_scores_that_the_page_does_not_know_become_a_table(finished: Example) -> None:
    run = finished.read()
    run.metrics["mesh"] = {"raw": {"chamfer_mm": 0.312345, "f_score_1mm": 0.9}, "icp": {"n_points": 7}}  # type: ignore[index]
    page = report.compose(run)
    assert "<caption>mesh: every number</caption>" in page
    assert '<td>raw chamfer_mm</td><td class="number">0.31234</td>' in page
    assert "Chamfer distance 0.31 mm, F-score 0.900 at 1 mm" in page
    assert '<td>icp n_points</td><td class="number">7</td>' in page


def test_a_broken_part_leaves_the_others(fresh: Example, caplog: pytest.LogCaptureFixture) -> None:
    (fresh.logs / "export" / "cloud.ply").write_bytes(b"ply\nformat ascii 1.0\n")
    page = fresh.evaluate()
    assert "True depth" in page
    assert "the surface of the report could not be drawn" in caplog.text

    assert "There is no surface to show" not in page
    assert re.search(r"The surface could not be drawn: .*cloud\.ply", page)


def made_again(example: Example, name: str) -> str:
    """Return the page of a run one of whose stages was made again after its evaluation."""
    example.evaluate()
    record = read_json(example.logs / "evaluation" / "metrics.json")
    mesh = {"raw": {"chamfer_mm": 0.312345, "f_score_1mm": 0.9}}
    write_json(example.logs / "evaluation" / "metrics.json", record | {"mesh": mesh})
    written = read_json(example.logs / name / "stamp.json") | {"hash": "another"}
    write_json(example.logs / name / "stamp.json", written)
    assert report.main([str(example.logs)]) == 0
    return example.page()


def test_scores_of_a_mesh_that_was_made_again_are_not_shown(fresh: Example) -> None:
    page = made_again(fresh, "export")
    words = "he stage export has changed since these scores were made: run evaluation again"
    assert page.count(words) == 2, "at the top of the summary, and in the verdict of the mesh"
    assert "0.31" not in re.sub(r"data:image[^\"]*|<script.*?</script>|<svg.*?</svg>", "", page, flags=re.S)
    assert "Mean error" not in page
    assert "dB on tissue of held-out frames" in page, "scores of other stages are"


@pytest.mark.parametrize(
    ("name", "gone", "kept"), [("filter", "mean error", "PSNR"), ("render", "dB on tissue of", "Chamfer distance")]
)
def test_scores_of_maps_that_were_made_again_are_not_shown(
    fresh: Example, name: str, gone: str, kept: str
) -> None:
    page = made_again(fresh, name)
    assert f"the stage {name} has changed since these scores were made" in page
    assert gone not in page.split('id="surface"')[0]
    assert kept in page


def test_a_dataset_that_is_gone_is_said_in_the_page(fresh: Example) -> None:
    fresh.evaluate()
    shutil.rmtree(fresh.data)
    assert report.main([str(fresh.logs)]) == 0
    page = fresh.page()
    assert "the log says why" not in page
    assert f"The dataset {fresh.data} is not there" in page
    assert "Frames could not be drawn: " in page
    assert "There is no truth for these frames" not in page
    assert f"are the real ones: the dataset {fresh.data} is not there" in page


@pytest.mark.parametrize("content", ["{}", "[]", '{"metric"', '["metric"]'])
def test_broken_scores_are_named(fresh: Example, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    fresh.evaluate()
    (fresh.logs / "evaluation" / "metrics.json").write_text(content)
    assert report.main([str(fresh.logs)]) == 2
    said = capsys.readouterr().err
    assert "metrics.json cannot be read" in said
    assert f"remove the folder {fresh.logs / 'evaluation'}, " in said


def test_a_page_that_cannot_be_written_never_costs_the_tables(
    fresh: Example, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("no pen")

    monkeypatch.setattr(stage, "write_report", broken)
    with pytest.raises(FileNotFoundError):
        fresh.evaluate()
    written = {path.name for path in (fresh.logs / "evaluation").iterdir()}
    assert {"metrics.json", "per_frame.csv", "table.md", "table.tex"} <= written
    assert "no report.html (ValueError: no pen)" in caplog.text


def test_warnings_of_the_last_run_alone_are_shown(fresh: Example) -> None:
    lines = ["INFO prior: started", "WARNING prior: of before", "INFO prior: started", "WARNING prior: of now"]
    (fresh.logs / "run.log").write_text("".join(f"2026-01-01 12:00:00,000 {line}\n" for line in lines))
    page = fresh.evaluate()
    assert "prior: of now" in page
    assert "of before" not in page


def test_a_run_without_evaluation_is_refused(fresh: Example, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(fresh.logs)]) == 2
    assert "has no finished evaluation" in capsys.readouterr().err
    stamp(fresh.logs / "evaluation", "--demo: a demonstration is not scored")
    assert report.main([str(fresh.logs)]) == 2
    assert "a demonstration is not scored" in capsys.readouterr().err


def test_ctrl_c_ends_the_command_without_a_traceback(fresh: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluation.report.page.stamped_options", interrupt)
    assert report.main([str(fresh.logs)]) == 130


def test_data_that_moved_is_found_where_the_scene_says(fresh: Example) -> None:
    fresh.evaluate()
    record = read_json(fresh.logs / "scene" / "frames.json") | {"datadir": str(fresh.data)}
    write_json(fresh.logs / "scene" / "frames.json", record)
    fresh.options = EvaluationOptions(datadir="./not/here")
    assert fresh.read().truth(fresh.read().views()[0]) is not None
