"""The held-out right eye: when it is one, its scores by hand, what its images entered, where it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.right_eye import BLOCK, TITLE
from evaluation.tables import CONSOLE_WIDTH, format_console_table, latex_table, markdown_table
from tests.finished_run import ERROR, NAMES, TEST, Example
from utils.artifacts import file_hash, read_json, write_json

LEFT, BOTH = ("left",), ("left", "right")


def learn(nerf: Path, sides: tuple[str, ...], ft_path: str = "") -> None:
    views = [[side, name] for side in sides for name in NAMES if name not in TEST]
    write_json(nerf / "field.json", {"training_views": views, "options": {"ft_path": ft_path}})


def stamp(nerf: Path, files: dict[str, str]) -> None:
    record = read_json(nerf / "stamp.json") if (nerf / "stamp.json").exists() else {"skipped": None}
    write_json(nerf / "stamp.json", record | {"files": files})


def metrics(example: Example) -> dict[str, Any]:
    example.evaluate()
    return dict(read_json(example.logs / "evaluation" / "metrics.json"))


@pytest.fixture
def example(tmp_path: Path) -> Example:
    made = Example(tmp_path)
    learn(made.logs / "nerf", LEFT)
    return made


def test_scores_of_the_right_eye_by_hand(example: Example) -> None:
    found = metrics(example)
    held_out = found[BLOCK]
    raw = {split: held_out["depth"]["filter"][split]["tissue"]["raw"] for split in ("train", "test", "all")}
    errors = [ERROR.get(("right", name), 0.0) for name in NAMES]
    assert raw["all"]["abs_rel"] == pytest.approx(np.mean(errors), abs=1e-6)
    assert raw["all"]["n_frames"] == 5
    low, high = raw["all"]["ci95"]["abs_rel"]
    assert low < raw["all"]["abs_rel"] < high
    assert "ci95" not in raw["test"]
    for split in ("train", "test"):
        assert raw[split] == found["depth"]["filter"][split]["right"]["tissue"]["raw"]
        assert held_out["rgb"][split] == found["rgb"][split]["right"]
    assert set(held_out["rgb"]["all"]) == set(held_out["rgb"]["test"])
    assert set(held_out["depth"]) == {"nerf", "filter"}, "the prior of a right image is made of that image"


@pytest.mark.parametrize("make", [markdown_table, latex_table, format_console_table])
def test_tables_show_it_with_what_its_images_entered(example: Example, make: Any) -> None:
    table = make(metrics(example))
    assert TITLE in table
    assert "saw no right image" in " ".join(table.replace("%", "").split())
    if make is format_console_table:
        lines = table.splitlines()
        first = next(index for index, line in enumerate(lines) if line.startswith(TITLE))
        rows = lines[first : first + 5]
        assert [row.split()[0] for row in rows[2:]] == ["train", "test", "all"]
        assert len({tuple(i for i, letter in enumerate(row) if letter == "|") for row in rows}) == 1
        assert max(len(line) for line in lines) <= CONSOLE_WIDTH
    else:
        assert table.count(TITLE) >= 2  # depth and colour
        assert " ± " in table or r"$\pm$" in table


def test_the_report_shows_it(example: Example) -> None:
    page = example.evaluate()
    assert f"{TITLE}: depth on tissue" in page
    assert "saw no right image" in page
    example_nerf = read_json(example.logs / "render" / "stamp.json")
    write_json(example.logs / "render" / "stamp.json", example_nerf | {"hash": "of another render"})
    assert BLOCK not in example.read().metrics


@pytest.mark.parametrize("sides", [BOTH, None])
def test_a_binocular_or_unknown_training_has_no_such_row(example: Example, sides: tuple[str, ...] | None) -> None:
    if sides is None:
        (example.logs / "nerf" / "field.json").unlink()
    else:
        learn(example.logs / "nerf", sides)
    found = metrics(example)
    assert BLOCK not in found
    assert not any("right eye" in note for note in found["notes"])
    assert TITLE not in format_console_table(found)


@pytest.mark.parametrize(("sides", "held_out"), [(LEFT, True), (BOTH, False)])
def test_the_training_that_it_began_with_counts(
    example: Example, tmp_path: Path, sides: tuple[str, ...], held_out: bool
) -> None:
    earlier, nerf = tmp_path / "earlier" / "nerf", example.logs / "nerf"
    learn(earlier, sides)
    learn(nerf, LEFT, str(earlier / "field.safetensors"))
    stamp(nerf, {str(earlier / "field.json"): file_hash(earlier / "field.json")})
    found = metrics(example)
    assert (BLOCK in found) is held_out
    assert any("has learned from it" in note for note in found["notes"]) is not held_out


@pytest.mark.parametrize("change", ["gone", "another", "its own start is gone"])
def test_a_start_that_nothing_is_known_of_is_no_proof(example: Example, tmp_path: Path, change: str) -> None:
    earlier, nerf = tmp_path / "earlier" / "nerf", example.logs / "nerf"
    learn(earlier, LEFT, str(tmp_path / "nowhere") if change == "its own start is gone" else "")
    learn(nerf, LEFT, str(earlier))
    stamp(nerf, {str(earlier / "field.json"): file_hash(earlier / "field.json")})
    if change == "gone":
        (earlier / "field.json").unlink()
    elif change == "another":
        learn(earlier, LEFT, "of other weights")
    found = metrics(example)
    assert BLOCK not in found
    assert any("may have learned from it" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("options", "poses", "prior", "words"),
    [
        ({"poses": {"poses": "colmap"}, "stereo": {"stereo": "sgbm,files"}}, True, True, "(stereo sgbm)"),
        ({"poses": {"poses": "file"}, "stereo": {"stereo": "files"}}, False, False, "neither poses nor depth"),
        (
            {"poses": {"poses": "file"}, "stereo": {"stereo": "files"}, "monocular": {"monocular": "auto"}},
            *(False, True),
            "(monocular small)",
        ),
        (
            {"poses": {"poses": "odometry"}, "stereo": {"stereo": "files"}},
            True,
            False,
            "poses of all frames (odometry)",
        ),
    ],
)
def test_what_right_images_entered_is_said(
    example: Example, options: dict[str, dict[str, str]], poses: bool, prior: bool, words: str
) -> None:
    for stage, given in options.items():
        path = example.logs / stage / "stamp.json"
        record = read_json(path) if path.exists() else {"skipped": None, "seconds": 1.0, "hash": f"of {stage}"}
        write_json(path, record | {"options": given})
    block = metrics_with_monocular(example, "monocular" in options)[BLOCK]
    used = {"colour": False, "filter": False, "poses": poses, "depth_prior_of_training_frames": prior}
    assert block["used_for"] == used
    assert words in block["statement"]


def test_a_scale_from_stereo_matches_is_said(example: Example) -> None:
    report = example.logs / "poses" / "report.json"
    for scale, used in (
        ("stereo matches beside the points", True),
        ("from the file: stereo matches say 1 mm", False),
    ):
        write_json(report, read_json(report) | {"scale": scale})
        block = metrics(example)[BLOCK]
        assert block["used_for"]["poses"] is used
        assert ("the scale of the poses" in block["statement"]) is used


def metrics_with_monocular(example: Example, monocular: bool) -> dict[str, Any]:
    from evaluation import stage
    from tests.finished_run import STAGES

    names = [*STAGES, *(["monocular"] if monocular else [])]
    out = example.logs / "evaluation"
    out.mkdir(exist_ok=True)
    stage.run(
        example.options, out=out, scene=example.logs / "scene", **{name: example.logs / name for name in names}
    )
    return dict(read_json(out / "metrics.json"))
