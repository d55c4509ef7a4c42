"""Tables: what they show, what they leave out, how wide they are."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.tables import CONSOLE_WIDTH, format_console_table, latex_table, markdown_table
from utils.latex import escape


def errors(abs_rel: float) -> dict[str, float]:
    return {
        "abs_rel": abs_rel,
        "sq_rel": 0.0456,
        "rmse": 1.25,
        "rmse_log": 0.02,
        "a1": 0.99,
        "a2": 1.0,
        "a3": 1.0,
        "coverage": 0.875,
        "n_valid_px": 1234,
        "n_frames": 3,
    }


def colour(psnr: float) -> dict[str, float]:
    return {"psnr": psnr, "ssim": 0.91, "lpips": 0.123, "n_frames": 3}


def full_metrics() -> dict[str, Any]:
    eyes = {
        side: {
            "tissue": {"raw": errors(0.0123), "median_scaled": errors(0.0077)},
            "full": {"raw": errors(0.5555)},
        }
        for side in ("left", "right")
    }
    splits = {split: copy.deepcopy(eyes) for split in ("train", "test")}
    regions = {"full": colour(30.01), "tissue": colour(31.02), "tissue_no_highlight": colour(34.03)}
    return {
        "metric": True,
        "protocol": "default",
        "depth": {method: copy.deepcopy(splits) for method in ("prior", "nerf", "filter")},
        "rgb": {split: dict.fromkeys(("left", "right"), regions) for split in ("train", "test")},
        "poses": {"n_registered": 23, "n_frames": 24, "reprojection_px": 0.612, "metric": True},
        "runtime_s": {"scene": 1.25, "nerf": 100.0},
        "peak_memory_mb": 1234.5,
        "notes": ["poses of test frames were estimated with the test images"],
    }


def mesh(accuracy_mm: float) -> dict[str, float]:
    distances = {"mean": accuracy_mm, "median": 0.205, "p95": 1.111}
    values = {
        f"{name}_{kind}_mm": value for name in ("accuracy", "completeness") for kind, value in distances.items()
    }
    values |= {f"f_score_{limit}mm": 0.9 for limit in ("0.25", "0.5", "1", "2")}
    return values | {"chamfer_mm": 0.333, "normal_consistency": 0.97, "n_mesh_points": 9, "n_truth_points": 8}


def bare_metrics() -> dict[str, Any]:
    return {
        "metric": False,
        "protocol": "default",
        "runtime_s": {},
        "peak_memory_mb": 100.0,
        "lpips_note": "no LPIPS, since the linear heads were not found",
        "notes": [],
    }


def test_markdown_has_one_row_for_every_method_split_eye_and_alignment() -> None:
    table = markdown_table(full_metrics())
    assert sum(line.startswith("| filter | ") for line in table.splitlines()) == 2 * 2 * 2
    assert "| prior | test | right | raw | 0.0123 | 0.0456 | 1.250 | 0.0200 | 0.9900 |" in table
    assert "| nerf | train | left | median-scaled | 0.0077 |" in table
    assert "| test | left | tissue, no highlight | 34.03 | 0.9100 | 0.1230 | 3 |" in table
    assert "0.5555" not in table  # the full image is in metrics.json alone
    assert "87.50%" in table


def with_intervals() -> dict[str, Any]:
    metrics = full_metrics()
    for method in metrics["depth"].values():
        for split in method.values():
            for eye in split.values():
                eye["tissue"]["raw"]["ci95"] = {
                    "abs_rel": [0.0103, 0.0130],
                    "sq_rel": [0.04, 0.05],
                    "a2": [1.0, 1.0],
                }
    metrics["rgb"]["test"]["left"] = {"tissue": colour(31.02) | {"ci95": {"psnr": [30.5, 31.22]}}}
    return metrics


def test_a_mean_with_an_interval_shows_the_longer_arm() -> None:
    table = markdown_table(with_intervals())
    assert "| prior | test | right | raw | 0.0123 ± 0.0020 | 0.0456 ± 0.0056 | 1.250 | 0.0200 |" in table
    assert "| 0.9900 | 1.0000 | 1.0000 | 87.50% |" in table  # an arm of no length is not shown
    assert "| test | left | tissue | 31.02 ± 0.52 | 0.9100 |" in table
    assert r"0.0123{\scriptsize\,$\pm$\,0.0020} & 0.0456{\scriptsize\,$\pm$\,0.0056} &" in latex_table(
        with_intervals()
    )


def test_the_console_has_one_column_for_the_arm_that_is_read_first() -> None:
    lines = format_console_table(with_intervals()).splitlines()
    assert max(len(line) for line in lines) <= CONSOLE_WIDTH
    depth = lines[: lines.index("")]
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in depth}) == 1
    assert "|   0.0123  0.0020    1.250" in depth[2]
    rgb = lines[len(depth) + 1 : lines.index("", len(depth) + 1)]
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in rgb}) == 1
    assert "31.02    0.52" in next(line for line in rgb if "test   left" in line)
    assert "±" not in format_console_table(full_metrics())


def test_without_scale_the_arm_stands_beside_the_scaled_error() -> None:
    metrics = with_intervals() | {"metric": False}
    for method in metrics["depth"].values():
        for split in method.values():
            for eye in split.values():
                eye["tissue"] = {"median_scaled": eye["tissue"]["raw"]}
    lines = format_console_table(metrics).splitlines()
    depth = lines[: lines.index("")]
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in depth}) == 1
    assert depth[2].endswith("|   0.0123  0.0020    1.250")


def test_every_source_that_ran_has_rows_before_the_prior() -> None:
    metrics = full_metrics()
    metrics["depth_sources"] = {"sgbm": metrics["depth"]["prior"], "pam": metrics["depth"]["prior"]}
    heads = [
        line.split("|")[1].strip() for line in markdown_table(metrics).splitlines() if " | test | left" in line
    ]
    assert [name for name in dict.fromkeys(heads) if name != "test"] == ["sgbm", "pam", "prior", "nerf", "filter"]


def test_rows_have_as_many_cells_as_their_head() -> None:
    lines = [line for line in markdown_table(full_metrics()).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines[:26]} == {14}
    assert {line.count("|") for line in lines[26:]} == {8}


def test_every_table_says_unit_poses_time_and_notes() -> None:
    for table in (
        markdown_table(full_metrics()),
        latex_table(full_metrics()),
        format_console_table(full_metrics()),
    ):
        words = " ".join(table.split())
        for expected in ("in mm", "23 of 24 frames", "0.61 px", "101.2 s", "1234 MB", "test images."):
            assert expected in words.replace("% ", ""), expected


@pytest.mark.parametrize("make", [markdown_table, latex_table, format_console_table])
def test_every_table_of_a_run_without_scale_says_so(make: Any) -> None:
    assert "arbitrary units, not mm" in make(bare_metrics())
    metrics = full_metrics() | {"metric": False}
    for method in metrics["depth"].values():
        for split in method.values():
            for eye in split.values():
                del eye["tissue"]["raw"]
    table = make(metrics)
    assert "arbitrary units, not mm" in table
    assert "0.0123" not in table
    assert "0.0077" in table


@pytest.mark.parametrize("make", [markdown_table, latex_table, format_console_table])
def test_absent_lpips_leaves_no_number_and_gives_the_reason(make: Any) -> None:
    metrics = copy.deepcopy(full_metrics()) | {"lpips_note": "no LPIPS, since the heads_file is missing"}
    for split in metrics["rgb"].values():
        for side in split.values():
            for region in side.values():
                region.pop("lpips", None)
    table = make(metrics)
    assert "0.1230" not in table
    assert "heads_file is missing" in " ".join(table.split())


def test_latex_escapes_and_has_matching_columns() -> None:
    table = latex_table(full_metrics())
    assert r"abs\_rel" in table
    assert r"87.50\%" in table
    assert r"\toprule" in table
    assert table.count(r"\begin{table}") == table.count(r"\end{table}") == 2
    rows = [line for line in table.splitlines() if line.endswith(r"\\") and not line.startswith("%")]
    assert {row.count(" & ") for row in rows} == {12, 6}
    # outside comments nothing is left that LaTeX would choke on
    for line in table.splitlines():
        if not line.startswith("%"):
            assert "%" not in line.replace(r"\%", "")
            assert "_" not in line.replace(r"\_", "")


def test_signs_that_latex_prints_as_others_are_written_out() -> None:
    assert escape("a < b_1 > 5 %") == r"a \textless{} b\_1 \textgreater{} 5 \%"


def test_a_mesh_has_a_row_for_each_alignment() -> None:
    icp = mesh(123.456) | {"icp_rotation_degrees": 0.21, "icp_shift_mm": 0.17}
    metrics = full_metrics() | {"mesh": {"raw": mesh(0.299), "icp": icp}}
    table = markdown_table(metrics)
    assert "| raw | 0.299 | 0.205 | 1.111 | 0.299 | 0.205 | 1.111 | 0.333 | 0.9000 |" in table
    assert "| – | – |\n| icp | 123.456 |" in table
    assert "| 0.9700 | 0.210 | 0.170 |" in table
    assert r"Mesh against the true surface" in latex_table(metrics)
    console = format_console_table(metrics).splitlines()
    assert max(len(line) for line in console) <= CONSOLE_WIDTH
    rows = [line for line in console if line.startswith(("raw  ", "icp  "))]
    heads = [line for line in console if "Chamfer" in line and "normals" in line]
    assert {line.count("|") for line in rows + heads} == {5}
    assert [index for index, letter in enumerate(heads[0]) if letter == "|"] == [
        index for index, letter in enumerate(rows[1]) if letter == "|"
    ]


def test_a_mesh_that_missed_the_truth_has_no_distances() -> None:
    metrics = full_metrics() | {"mesh": {"raw": {"f_score_1mm": 0.0, "n_mesh_points": 0, "n_truth_points": 8}}}
    for table in (markdown_table(metrics), format_console_table(metrics)):
        row = next(line for line in table.splitlines() if line.lstrip("| ").startswith("raw "))
        assert "0.0000" in row
    assert "accuracy mean" not in markdown_table(metrics)
    assert "Chamfer (mm)" not in markdown_table(metrics)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=300), st.floats(0, 1e6))
def test_the_console_table_is_never_wider_than_the_console(note: str, value: float) -> None:
    metrics = full_metrics()
    metrics["notes"] = [note, "x" * 250]
    metrics["depth"]["nerf"]["test"]["left"]["tissue"]["raw"] = errors(0.01) | {"rmse": value}
    table = format_console_table(metrics)
    assert max(len(line) for line in table.splitlines()) <= CONSOLE_WIDTH


def test_the_console_table_lines_up() -> None:
    lines = format_console_table(full_metrics()).splitlines()
    depth = lines[: lines.index("")]
    assert len(depth) == 2 + 3 * 2 * 2
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in depth}) == 1
    rest = lines[len(depth) + 1 :]
    rgb = rest[: rest.index("")]
    assert len(rgb) == 2 + 2 * 2
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in rgb}) == 1


def test_a_method_without_any_valid_pixel_shows_its_coverage_alone() -> None:
    metrics = full_metrics()
    nothing = {"coverage": 0.0, "n_valid_px": 0, "n_frames": 3}
    metrics["depth"] = {"prior": {"test": {"left": {"tissue": {"raw": nothing}}}}}
    (line,) = [line for line in format_console_table(metrics).splitlines() if line.startswith("prior")]
    assert "0.0%" in line
    assert "–" in line
    assert "| prior | test | left | raw | 0.00% | 3 |" in markdown_table(metrics)
