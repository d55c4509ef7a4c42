"""Published numbers have source and protocol; ours stand beside them only where data and protocol match."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import published
from benchmarks.beside_published import UNDISTORTED, compare, main
from benchmarks.published import COLUMNS, FOLDER, NOT_IMPLEMENTED, Number, beside, read_all, read_numbers
from benchmarks.published_data import DATA
from evaluation.protocols import named
from utils.artifacts import read_json, write_json
from utils.errors import InputError

ROOT = Path(__file__).parents[2]
# Numbers that nobody has read in a text, or whose source mixes datasets: dataset, the value, as it was told.
NEVER = {
    "EndoNeRF": ("0.930", "0.835", "1.485", "1.165"),
    "SCARED": (
        "1.281", "1.091", "26.31", "26.88", "29.40", "30.56",
        "0.377", "4.296", "0.074", "0.975", "23.16", "26.03", "27.23",
    ),
    "ScanNet": ("0.061", "0.028", "0.134", "0.079", "20.96", "20.85", "16.29", "19.03", "0.733"),
    "DTU": ("0.84", "0.61"),
}  # fmt: skip
ENDOSURF: dict[str, Any] = {"psnr": 25.128, "ssim": 0.8126, "psnr_of": "tissue, pooled", "n_frames": 9}
ENDOSURF |= {"split": "every eighth", "comparable": True, "left_out": {"lpips": "no VGG16 was found"}}
ENDOSURF |= {"depth": {"nerf": {"rmse_mm": 1.5, "coverage": 1.0}}, "geometry_mm": 0.9}


def number(**changes: str) -> Number:
    usual = dict(zip(COLUMNS, ("D", "c", "M", "psnr", "30.1", "dB", "endosurf", "a paper", "no", ""), strict=True))
    return Number(**{**usual, **changes})


class Example:
    """The files of a finished run by which it is known, made by hand."""

    def __init__(self, root: Path, name: str = "mine") -> None:
        self.data, self.run = root / "data" / name, root / "logs" / name
        self.names = [f"frame{index:06d}" for index in range(0, 120, 2)]
        self.record: dict[str, Any] = {"kind": "scared", "source": "/x/dataset_1/keyframe_1"}
        self.size, self.factor, self.undistorted = [1280, 1024], 1, False
        self.metrics: dict[str, Any] = {"metric": True, "protocols": {"endosurf": dict(ENDOSURF)}}

    def pulling(self) -> Example:
        self.names, self.size = [f"frame-{index:06d}" for index in range(63)], [640, 512]
        self.record = {"kind": "endonerf"}
        return self

    def write(self) -> Path:
        frames = {"names": self.names, "image_size": self.size, "factor": self.factor, "datadir": str(self.data)}
        write_json(self.run / "scene" / "frames.json", frames | {"undistorted": self.undistorted})
        write_json(self.run / "scene" / "stamp.json", {"hash": "s", "inputs": {}})
        write_json(self.run / "evaluation" / "metrics.json", self.metrics)
        write_json(self.run / "evaluation" / "stamp.json", {"hash": "e", "inputs": {"scene": "s"}})
        write_json(self.data / "dataset.json", self.record)
        return self.run


@pytest.fixture
def example(tmp_path: Path) -> Example:
    return Example(tmp_path)


def refusal(dataset: str, *runs: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        compare(dataset, runs)
    return caught.value


def row(text: str, *words: str) -> list[str]:
    """Return the cells of the one line of a table that has all the words."""
    found = [line for line in text.splitlines() if line.startswith("|") and all(word in line for word in words)]
    assert len(found) == 1, found
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def test_the_page_is_what_its_data_make(tmp_path: Path) -> None:
    command = [sys.executable, "docs/published_page.py", str(tmp_path / "page.md")]
    subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    page = (ROOT / "docs" / "published.md").read_text(encoding="utf-8")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page, "run docs/published_page.py again"


def test_every_file_is_on_the_page_and_has_sources_and_protocols() -> None:
    files = sorted(FOLDER.glob("*.csv"))
    words = (FOLDER / "page.md").read_text(encoding="utf-8")
    assert files
    assert all(f"\n[{path.name}]\n" in words for path in files)
    assert all(len(read_numbers(path)) > 0 for path in files)  # reading refuses what lacks something


def test_the_page_has_no_number_of_ours() -> None:
    lines = [
        line
        for line in (ROOT / "docs" / "published.md").read_text(encoding="utf-8").splitlines()
        if "Specula" in line
    ]
    assert len(lines) > 10
    for line in lines:
        _, _, *figures, source, note = (cell.strip() for cell in line.strip("|").split("|"))
        assert not any(figures)
        assert source.startswith("not measured: we do not have this data")
        assert not note


def test_no_number_that_nobody_has_read_is_in_the_data() -> None:
    found = [(one.dataset, one.value) for one in read_all() if one.value in NEVER.get(one.dataset, ())]
    assert found == []
    assert not [one for one in read_all() if one.dataset == "SCARED" and "Surgical-DINO" in one.method]
    assert not [one for one in read_all() if one.method in ("LightNeuS", "NeuS", "MonoSDF", "DDP-NeRF")]
    assert "unverified" not in (ROOT / "docs" / "published.md").read_text(encoding="utf-8").lower()


def test_spot_checks_of_the_transcription() -> None:
    values = {(one.clip, one.method, one.metric, one.source): one.value for one in read_all()}
    assert values["pulling_soft_tissues", "SAGS", "psnr", "SAGS, Table 2"] == "38.30"
    assert values["d7k1", "EndoSurf", "lpips", "SAGS, Table 2, copied from EndoSurf"] == "0.282"
    assert values["550 test frames", "EndoDAC", "rmse", "EndoDAC, README"] == "4.464"
    assert ("mean of 6 clips", "EndoGS", "lpips") in {key[:3] for key in values}


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("source", "", "no source"),
        ("protocol", "", "no protocol"),
        ("protocol", "endosurf2", "'endosurf2'"),
        ("protocol", NOT_IMPLEMENTED, "'not implemented: '"),
        ("value", "about 30", "'about 30'"),
        ("value", "(30.1)", "'(30.1)'"),
        ("secondary", "maybe", "'maybe'"),
    ],
)
def test_a_line_that_lacks_something_is_refused_with_its_place(
    column: str, value: str, found: str, tmp_path: Path
) -> None:
    good, bad = number(), number(**{column: value})
    lines = [",".join(getattr(one, name) for name in COLUMNS) for one in (good, bad)]
    path = tmp_path / "x.csv"
    path.write_text("\n".join([",".join(COLUMNS), *lines]))
    with pytest.raises(InputError, match=r"x\.csv, line 3,") as caught:
        read_numbers(path)
    assert found in caught.value.found


def test_the_same_number_twice_is_refused(tmp_path: Path) -> None:
    """A table has one cell for it: the first would be lost without a word."""
    lines = [",".join(getattr(number(value=value), name) for name in COLUMNS) for value in ("1", "2")]
    (tmp_path / "x.csv").write_text("\n".join([",".join(COLUMNS), *lines]))
    with pytest.raises(InputError, match="line 3") as caught:
        read_numbers(tmp_path / "x.csv")
    assert "a second psnr of M" in caught.value.found


def test_every_number_has_a_cell_of_its_own() -> None:
    for path in FOLDER.glob("*.csv"):
        numbers = read_numbers(path)
        cells = sum(
            cell.strip() != ""
            for protocol in {one.protocol for one in numbers}
            for line in beside([one for one in numbers if one.protocol == protocol], ())[2:]
            for cell in line.strip("|").split("|")[2:-2]
        )
        assert cells == len(numbers)


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("dataset,clip\n")
    with pytest.raises(InputError, match="line 1"):
        read_numbers(tmp_path / "x.csv")


def test_units_and_notes_stand_once_where_they_are_shared() -> None:
    numbers = [
        number(note="on a laptop; conflict: other"),
        number(metric="train", value="3", unit="h", note="on a laptop"),
        number(method="N", metric="train", value="9", unit="min", secondary="yes"),
    ]
    head, _, first, second = beside(numbers, ())
    assert head == "| clip | method | PSNR, dB | training | source | note |"
    assert first == "| c | M | 30.1 | 3 h | a paper | on a laptop; PSNR: conflict: other |"
    assert second == "| c | N |  | 9 min | a paper (secondary) |  |"


def test_ours_stands_beside_the_same_data_and_protocol(example: Example) -> None:
    text = compare("scared-d1k1", [example.write()])
    assert row(text, "| EndoSurf |")[:5] == ["d1k1", "EndoSurf", "24.40", "0.769", "0.319"]
    assert row(text, "**ours: ")[1:6] == [f"**ours: {example.run}**", "25.13", "0.813", "", "measured, 9 frames"]
    assert text.index("| EndoSurf |") < text.index("**ours: ") < text.index("## Not compared")
    assert "`endosurf`: LPIPS is absent, no VGG16 was found." in text
    assert UNDISTORTED not in text
    assert "EndoGaussian (binocular)" not in text
    assert "EndoGaussian, SAGS: protocol not implemented here" in text
    assert "d2k1 (12 numbers)" in text
    assert "a comparison across sources is no result" in text


def test_scores_under_a_protocol_without_published_numbers_stand_alone(example: Example) -> None:
    example.metrics["protocols"]["nerfingmvs"] = {"abs_rel": 0.01, "n_frames": 9}
    text = compare("scared-d1k1", [example.write()])
    assert "ours under `nerfingmvs`: nothing is published under it on this clip." in text
    assert "0.01" not in text.split("## Not compared")[0]


def test_a_refused_protocol_is_refused_here_too(example: Example) -> None:
    example.metrics = {"protocols": {}, "protocols_refused": {"endosurf": "frames 0, 8, … were held out"}}
    text = compare("scared-d1k1", [example.write()])
    assert f"`endosurf`, {example.run}: refused, frames 0, 8, … were held out." in text
    assert "**ours" not in text
    assert "## Protocol" not in text


def test_a_run_scored_before_there_were_protocols_is_told_how_to_get_them(example: Example) -> None:
    example.metrics = {"metric": True}
    assert "--from evaluation" in compare("scared-d1k1", [example.write()])


def test_moving_tissue_is_compared_by_nothing_but_its_stereo_depth(example: Example) -> None:
    raw = {"abs_rel": 0.031, "rmse": 2.5, "coverage": 0.9, "n_frames": 8}
    scores = {"tissue": {"raw": raw, "median_scaled": {"abs_rel": 0.021}}}
    example.pulling().metrics["depth_sources"] = {"sgbm": {"test": {"left": scores}}}
    text = compare("endonerf-pulling", [example.write()])
    assert "**ours" not in text
    assert "25.13" not in text
    assert "`endosurf`: tissue moves in this clip and our field is static" in text
    assert row(text, "sgbm") == [str(example.run), "sgbm", "test", "0.0310", "2.500 mm", "0.0210", "90.0%", "8"]


def test_without_stereo_depth_a_clip_of_moving_tissue_has_nothing_to_show(example: Example) -> None:
    assert "No run here has scores of stereo depth." in compare("endonerf-pulling", [example.pulling().write()])


def test_scores_that_their_protocol_doubts_stand_beside_nothing(example: Example) -> None:
    example.metrics["protocols"]["endosurf"] |= {
        "comparable": False,
        "doubts": ["images were made 2 times smaller"],
    }
    text = compare("scared-d1k1", [example.write()])
    assert "not comparable, images were made 2 times smaller." in text
    assert "25.13" not in text


def test_images_that_were_undistorted_are_told_of(example: Example) -> None:
    example.undistorted = True
    assert UNDISTORTED in compare("scared-d1k1", [example.write()])


def afsfm_runs(root: Path) -> list[Path]:
    runs = []
    for name, count, error in (("a", 150, 0.02), ("b", 400, 0.075)):
        one = Example(root, name)
        depth = {
            "prior": {"abs_rel": error, "n_frames": count},
            "filter": {"abs_rel": 2 * error, "n_frames": count},
        }
        one.metrics = {"protocols": {"afsfm": {"depth": depth, "n_frames": count, "comparable": True}}}
        runs.append(one.write())
    return runs


def test_a_list_over_several_recordings_takes_all_runs_together(tmp_path: Path) -> None:
    runs = afsfm_runs(tmp_path)
    # (150 * 0.02 + 400 * 0.075) / 550 = (3 + 30) / 550 = 0.06
    text = compare("scared-afsfm", runs)
    assert row(text, "ours: 2 runs together, prior")[2:4] == ["0.0600", ""]
    assert "0.1200" in row(text, "ours: 2 runs together, filter")
    assert "`afsfm`: RMSE is absent from the runs." in text
    text = compare("scared-afsfm", runs[:1])
    assert "prior, the runs given scored 150 of its 550 frames" in text
    assert "**ours" not in text


def test_depth_with_holes_stands_beside_nothing(tmp_path: Path) -> None:
    runs = afsfm_runs(tmp_path)
    metrics = read_json(runs[1] / "evaluation" / "metrics.json")
    metrics["protocols"]["afsfm"]["depth"]["prior"] |= {"coverage": 0.6, "comparable": False}
    write_json(runs[1] / "evaluation" / "metrics.json", metrics)
    text = compare("scared-afsfm", runs)
    assert "ours: 2 runs together, prior" not in text
    assert "0.1200" in row(text, "ours: 2 runs together, filter")
    assert f"`afsfm`, {runs[1]}: depth of prior has holes, not comparable." in text


def test_frames_of_one_recording_never_count_twice(tmp_path: Path) -> None:
    first, second = afsfm_runs(tmp_path)
    frames = read_json(second / "scene" / "frames.json")
    write_json(second / "scene" / "frames.json", frames | {"datadir": str(tmp_path / "data" / "a")})
    assert "one recording" in refusal("scared-afsfm", first, second).what


def test_data_without_a_protocol_of_ours_gives_reasons_alone(example: Example) -> None:
    example.record["kind"] = "c3vd"
    text = compare("c3vd", [example.write()])
    assert "EndoGSLAM-H" in text
    assert "protocol not implemented here" in text
    assert "|" not in text


def test_a_run_on_other_data_is_refused(example: Example) -> None:
    def found(dataset: str) -> str:
        return refusal(dataset, example.write()).found

    assert "kind scared" in found("endonerf-pulling")
    example.record["source"] = "/x/dataset_1/keyframe_12"
    assert "keyframe_12" in found("scared-d1k1")
    example.record["source"] = "/x/dataset_1/keyframe_1"
    assert "dataset_1/keyframe_1" in found("scared-d2k1")
    example.names = [f"frame{index:06d}" for index in range(30)]
    assert "steps of 1" in found("scared-d1k1")
    example.factor, example.size = 2, [640, 512]
    assert found("scared-d1k1") == "640x512, --factor 2"
    example.pulling().factor = 1
    assert "63 frames" in found("endonerf-cutting")
    example.names.pop()
    assert "62 frames" in found("endonerf-pulling")
    run = example.write()
    (example.data / "dataset.json").unlink()
    assert "dataset.json" in refusal("endonerf-pulling", run).found


def test_a_run_that_is_not_whole_is_refused(example: Example) -> None:
    run = example.write()
    assert "twice" in refusal("scared-d1k1", run, run / "." / ".." / run.name).what
    for key, value in (("psnr", "a lot"), ("psnr", None), ("psnr", float("inf")), ("depth", [])):
        example.metrics["protocols"]["endosurf"] = {**ENDOSURF, key: value}
        (run / "evaluation" / "metrics.json").write_text(json.dumps(example.metrics))
        assert "metrics.json" in refusal("scared-d1k1", run).what
    (run / "evaluation" / "stamp.json").unlink()
    assert "stage `evaluation` is needed" in refusal("scared-d1k1", run).what


def test_every_clip_of_the_command_has_published_numbers() -> None:
    clips = {(one.dataset, one.clip) for one in read_all()}
    datasets = {one.dataset for one in read_all()}
    for data in DATA.values():
        assert (data.dataset, data.clip) in clips if data.clip else data.dataset in datasets


def test_the_command_prints_and_writes(
    example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "beside.md"
    assert main([str(example.write()), "--dataset", "scared-d1k1", "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == capsys.readouterr().out.removesuffix("\n")
    assert main([str(tmp_path), "--dataset", "scared-d1k1"]) == 2
    assert "is no run" in capsys.readouterr().err


def test_the_protocols_of_the_page_are_those_that_are_built() -> None:
    assert set(published.PROTOCOLS) == set(named.PROTOCOLS)
