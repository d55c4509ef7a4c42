"""The command that locates images: records, pictures, starts, masks, refusals, bad input.

The tiny run is trained too little to locate anything in it. How well images are located is tested on the example
at full size, in `test_quality.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from localisation.locate import main
from localisation.reading import Files, Reader
from tests.tiny import Session
from utils.artifacts import read_json
from utils.errors import InputError
from utils.images import read_rgb, write_rgb
from utils.scene import Scene
from utils.types import Camera
from utils.undistortion import Lens

pytestmark = pytest.mark.slow


@pytest.fixture
def run(whole: Session, tmp_path: Path) -> Path:
    shutil.copytree(whole.logs, tmp_path / "run")
    return tmp_path / "run"


def images(data: Path, side: str, names: list[str]) -> list[str]:
    return [str(data / side / "images" / f"{name}.jpg") for name in names]


def test_a_field_that_explains_nothing_is_refused_with_its_reason(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sixty steps of training do not make a field that explains an image: that is said, and no pose is given."""
    names = ["2", "5"]
    words = [str(run), *images(data, "l", names), "--right", *images(data, "r", names), "--start", "2"]
    assert main([*words, "--json", "--min_explained", "0.9", "--device", "cpu"]) == 0
    printed = json.loads(capsys.readouterr().out)
    out = run / "localisation" / "located"
    assert printed == read_json(out / "poses.json")
    for image in printed["images"]:
        assert not image["located"]
        assert "world_from_left" not in image
        assert np.array(image["best_guess"]).shape == (4, 4)
        assert "less than 90 %" in image["reason"]
        assert read_rgb(out / "pictures" / f"{image['name']}.png").shape == (2 * 96, 3 * 112, 3)
    with np.load(out / "poses.npz") as poses:
        assert poses["names"].shape == (0,)
        assert poses["world_from_left"].shape == (0, 4, 4)


def test_what_cannot_be_read_is_said_before_the_work(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = images(data, "l", ["1"])[0]
    small, text = tmp_path / "small.png", tmp_path / "text.png"
    write_rgb(small, np.zeros((50, 60, 3), np.uint8))
    text.write_text("no image")
    (tmp_path / "masks").mkdir()
    cases: list[tuple[list[str], str]] = [
        ([good, str(small)], "found:    60x50"),
        ([good, str(text)], "cannot be read as an image"),
        ([str(tmp_path / "none.png")], "no such file"),
        ([good, good], "two images have one name"),
        ([good, "--right", *images(data, "r", ["1", "2"])], "1 left, 2 right"),
        ([good, "--masks", str(tmp_path / "masks")], "no 1.png"),
        ([good, "--start", "nowhere"], "neither a placed frame nor a file"),
        ([good, "--start", "1", "2", "3"], "16"),
        ([good, "--min_explained", "3"], "limits"),
    ]
    for words, said in cases:
        assert main([str(run), *words, "--out", str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err
    assert main([str(tmp_path), good]) == 2
    assert "is no run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_finished_images_are_kept_where_a_later_one_is_broken(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(images(data, "l", ["2"])[0]).read_bytes()[:-3000])
    words = [str(run), images(data, "l", ["1"])[0], str(broken), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(words) == 2
    assert "broken.jpg cannot be read" in capsys.readouterr().err
    assert [image["name"] for image in read_json(tmp_path / "out" / "poses.json")["images"]] == ["1"]


def test_an_image_is_undistorted_as_those_of_the_run_were(run: Path, data: Path, tmp_path: Path) -> None:
    dataset = Scene.load(run / "scene")
    stored = Lens(Camera(**{**vars(dataset.rig.left)}), (-0.2, 0.05, 0.0, 0.0, 0.0))
    reader = Reader(dataset, {"left": stored}, Reader.of(dataset).tissue)
    path = Path(images(data, "l", ["1"])[0])
    files = Files("1", path, None, {"left": None, "right": None})
    reader.check(files)
    straight = reader.read(files).eyes[0].image
    assert straight.shape == (96, 112, 3)
    assert np.abs(straight.astype(int) - read_rgb(path)).mean() > 1.0
    half = Reader(dataset, {"left": Lens(dataset.rig.left.resized(224, 192))}, reader.tissue)
    twice = tmp_path / "1.png"
    write_rgb(
        twice,
        cv2.resize(read_rgb(path), (224, 192), interpolation=cv2.INTER_NEAREST),  # type: ignore[arg-type]
    )
    reduced = half.read(Files("1", twice, None, {"left": None, "right": None})).eyes[0].image
    np.testing.assert_array_equal(reduced, read_rgb(path))
    with pytest.raises(InputError, match="no image of this run"):
        reader.check(Files("1", twice, None, {"left": None, "right": None}))
