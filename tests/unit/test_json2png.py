"""Masks from labelme: every kind of shape, labelme's own output, what the stage `scene` reads, and refusals."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stereo_prior import scene as stage
from stereo_prior.dataset import read_dataset
from stereo_prior.scene import SceneOptions
from stereo_prior.tissue import read_tissue_mask
from tests.synthetic import write_dataset
from utils.artifacts import load_maps
from utils.images import read_rgb, write_rgb
from utils.json2png import convert, main
from utils.label_coding import class_colours
from utils.labelme_shapes import paint, read_annotation
from utils.types import BoolArray

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "labelme"
ROOT = Path(__file__).parents[2]
SIZE = (60, 40)
HALVES = [("tissue", [0, 0], [59, 39]), ("tool", [30, 0], [59, 39])]  # the tool is drawn over the tissue


def shape(kind: str | None, *points: Sequence[float], label: str = "tissue", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": list(points), "shape_type": kind, "group_id": None, "flags": {}} | more


def rectangles(*named: tuple[str, Sequence[float], Sequence[float]]) -> list[dict[str, Any]]:
    return [shape("rectangle", first, last, label=label) for label, first, last in named]


def write_json(path: Path, shapes: Any, size: tuple[int, int] | None = SIZE, version: str = "5.5.0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size or (None, None)
    record = {"version": version, "imagePath": "elsewhere.jpg", "imageData": None, "shapes": shapes}
    path.write_text(json.dumps(record | {"imageWidth": width, "imageHeight": height}))
    return path


def drawn(folder: Path, *shapes: dict[str, Any]) -> BoolArray:
    """Return what labelme's shapes cover of an image of SIZE."""
    annotation = read_annotation(write_json(folder / "1.json", list(shapes)))
    return paint(annotation, SIZE, {"tissue": 1, "tool": 0}) > 0


def encoded(pixels: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write_scene(folder: Path, shapes: Any = None, frames: int = 2) -> Path:
    """Write grey frames of SIZE for both eyes, each with an annotation beside it."""
    for eye in "lr":
        for name in range(1, frames + 1):
            write_rgb(folder / eye / "images" / f"{name}.png", np.full((*SIZE[::-1], 3), 90, np.uint8))
            write_json(folder / eye / "images" / f"{name}.json", rectangles(*HALVES) if shapes is None else shapes)
    return folder


def mask_of(scene: Path, name: str = "1", eye: str = "l") -> Any:
    with Image.open(scene / f"mask_{eye}" / f"{name}.png") as image:
        return np.array(image)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(scene: Path, *words: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command line, and return its refusal; not a file may have changed."""
    before = files_of(scene)
    assert main([str(scene), *map(str, words)]) == 2
    assert files_of(scene) == before
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert all(word in said for word in ("error: ", "found:", "expected:", "do:"))
    return said


def test_a_rectangle_holds_both_its_corners(tmp_path: Path) -> None:
    expected = np.zeros(SIZE[::-1], bool)
    expected[3:7, 2:6] = True
    for corners in ([[2, 3], [5, 6]], [[5, 6], [2, 3]], [[5, 3], [2, 6]]):
        np.testing.assert_array_equal(drawn(tmp_path, shape("rectangle", *corners)), expected)
    around = ([2, 3], [5, 3], [5, 6], [2, 6])
    for kind in ("polygon", "oriented_rectangle", None):
        np.testing.assert_array_equal(drawn(tmp_path, shape(kind, *around)), expected)


def test_round_shapes_have_their_radius(tmp_path: Path) -> None:
    circle = drawn(tmp_path, shape("circle", [30, 20], [33, 24]))  # radius 5
    np.testing.assert_array_equal(circle, drawn(tmp_path, shape("point", [30, 20])))
    rows, columns = np.nonzero(circle)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (25, 35, 15, 25)
    assert circle.sum() == pytest.approx(np.pi * 5.5**2, rel=0.05)


def test_lines_are_ten_pixels_wide(tmp_path: Path) -> None:
    line = drawn(tmp_path, shape("line", [10, 20], [49, 20]))
    assert set(line[:, 15:45].sum(axis=0)) == {10}
    strip = drawn(tmp_path, shape("linestrip", [10, 10], [40, 10], [40, 30]))
    assert strip[10, 10:40].all()
    assert strip[10:30, 40].all()
    assert not strip[25, :30].any()


def test_stored_pixels_lie_between_their_corners(tmp_path: Path) -> None:
    pixels = np.array([[1, 0, 1], [1, 1, 0]], np.uint8)
    expected = np.zeros(SIZE[::-1], bool)
    expected[8:10, 4:7] = pixels > 0
    for stored in (pixels, pixels > 0, 255 * pixels):
        mask = shape("mask", [4, 8], [6, 9], mask=encoded(stored))
        np.testing.assert_array_equal(drawn(tmp_path, mask), expected)
    outside = drawn(tmp_path, shape("mask", [-1, 39], [1, 40], mask=encoded(pixels)))
    assert np.argwhere(outside).tolist() == [[39, 1]]
    moved = drawn(tmp_path, shape("mask", [4.4, 8.4], [6.6, 9.6], mask=encoded(pixels)))  # rounds to 4 x 3
    np.testing.assert_array_equal(moved, expected)


def test_what_reaches_past_the_image_is_cut_off(tmp_path: Path) -> None:
    assert drawn(tmp_path, shape("polygon", [-50, -50], [200, -50], [200, 200], [-50, 200])).all()


def test_a_later_shape_covers_an_earlier_one(tmp_path: Path) -> None:
    tissue, tool = rectangles(*HALVES)
    assert drawn(tmp_path, tissue, tool).sum() == 30 * 40
    assert drawn(tmp_path, tool, tissue).all()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"labelme's examples are not at {DATA}")
@pytest.mark.parametrize("name", ["2011_000003", "2011_000006", "2011_000025"])
def test_classes_are_labelmes_own(tmp_path: Path, name: str) -> None:
    images = tmp_path / "l" / "images"
    images.mkdir(parents=True)
    for ending in ("jpg", "json"):
        shutil.copy(DATA / f"{name}.{ending}", images)
    convert(tmp_path, "images", class_map=DATA / "labels.txt")
    with Image.open(DATA / f"expected_{name}.png") as image:
        expected = np.array(image)
    classes = mask_of(tmp_path, name)
    assert (classes != expected).mean() < 0.001
    convert(tmp_path, "images", overwrite=True)
    np.testing.assert_array_equal(mask_of(tmp_path, name), np.where((classes > 0) & (classes < 255), 255, 0))
    assert read_rgb(tmp_path / "l" / "images_vis" / f"{name}.jpg").shape[:2] == expected.shape


def test_everything_but_two_labels_is_tissue(tmp_path: Path) -> None:
    left_alone = [("_background_", [0, 0], [9, 39]), ("__ignore__", [50, 0], [59, 39])]
    scene = write_scene(tmp_path / "data", rectangles(*HALVES, *left_alone))
    said = convert(scene, "images")
    assert "2 of 2 in mask_l, 2 of 2 in mask_r; tissue is tissue, tool" in said
    for eye in "lr":
        mask = mask_of(scene, eye=eye)
        assert mask.shape == SIZE[::-1]
        assert (mask[:, 10:50] == 255).all()
        assert not mask[:, :10].any()
        assert not mask[:, 50:].any()
    convert(scene, "images", ["tool"], overwrite=True)
    assert set(np.nonzero(mask_of(scene))[1]) == set(range(30, 50))


def test_the_overlay_shows_what_is_tissue(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "data")
    convert(scene, "images", ["tissue"])
    red, green, blue = read_rgb(scene / "l/images_vis/1.jpg")[20, 10].astype(int)
    assert green > red + 20
    assert green > blue + 20
    np.testing.assert_allclose(read_rgb(scene / "r/images_vis/2.jpg")[20, 50], 90, atol=3)


def test_a_class_map_is_read_as_tissue_where_it_is(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "data", rectangles(*HALVES, ("__ignore__", [50, 0], [59, 39])))
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ntool\ntissue\n\n")
    convert(scene, "images", ["tissue"], tmp_path / "labels.txt")
    indices = mask_of(scene)
    assert {indices[0, column] for column in (0, 40, 55)} == {2, 1, 255}
    mask = read_tissue_mask(scene / "mask_l/1.png", SIZE, scene / "l/images/1.png")
    np.testing.assert_array_equal(mask, indices == 2)


def test_classes_have_the_colours_of_pascal_voc() -> None:
    colours = class_colours()
    assert colours[[0, 1, 2, 3, 15, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [192, 128, 128],
        [224, 224, 192],
    ]
    assert len(np.unique(colours, axis=0)) == 256


def test_the_scene_reads_the_masks_of_rectified_images(tmp_path: Path) -> None:
    scene = tmp_path / "data"
    write_dataset(scene, frames=1)
    cuts = {"l": 20, "r": 4}
    for eye, cut in cuts.items():
        image = read_rgb(scene / eye / "images/1.png")[:, cut:]
        write_rgb(scene / eye / f"rectify/1_{cut}.png", image)
        corners = rectangles(("tissue", [0, 0], [99, 127]))
        write_json(scene / eye / f"rectify/1_{cut}.json", corners, (160 - cut, 128))
    convert(scene, "rectify")
    dataset = read_dataset(scene, "rectify", use_right=True, need_right=True)
    assert dataset.mask("right", "1") == scene / "mask_r/1.png"
    stage.run(SceneOptions(datadir=str(scene), image_dir="rectify"), out=tmp_path / "out")
    for side, eye in (("left", "l"), ("right", "r")):
        tissue = load_maps(tmp_path / "out/masks", side, "1")["tissue"]  # type: ignore[arg-type]
        assert tissue.shape == (128, 160 - cuts[eye])
        assert set(np.nonzero(tissue)[1]) == set(range(100))
        assert (scene / eye / "images_vis/1.jpg").exists()


def test_masks_that_exist_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "data")
    write_rgb(scene / "mask_r/2.tif", np.full(SIZE[::-1], 255, np.uint8))
    assert "2.tif exists" in refused(scene, capsys=capsys)
    assert main([str(scene), "--labels", "tissue", "--overwrite"]) == 0
    assert not (scene / "json2png.partial").exists()
    dataset = read_dataset(scene, "images", use_right=True, need_right=True)
    assert dataset.mask("right", "2") == scene / "mask_r/2.png"
    assert (mask_of(scene, "2", "r") > 0).mean() == 0.5


def test_images_without_annotation_are_counted(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "data")
    shutil.rmtree(scene / "r")
    (scene / "l/images/2.json").unlink()
    said = convert(scene, "images")
    assert "1 of 2 in mask_l (the others are all tissue), 0 of 0 in mask_r" in said
    assert not (scene / "mask_r").exists()


def test_an_annotation_need_not_say_its_size(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "data", frames=1)
    write_json(scene / "l/images/1.json", rectangles(*HALVES), size=None, version="4.0.0")
    convert(scene, "images")
    assert mask_of(scene).all()


BAD_FILES = {
    "cannot be read as JSON": b'{"shapes": [',
    "cannot be read as JSON\n": b"\xff\xfe\x00",
    "is not an annotation of labelme": b'{"annotations": []}',
    "is not an annotation of labelme\n": b"[]",
    "marks no tissue": b'{"shapes": []}',
    "shape 1 has no label": b'{"shapes": [{"points": []}]}',
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("words", BAD_FILES)
def test_a_file_that_is_no_annotation(tmp_path: Path, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "data")
    (scene / "r/images/2.json").write_bytes(BAD_FILES[words])
    said = refused(scene, capsys=capsys)
    assert "r/images/2.json" in said
    assert words.strip().replace("nested", "cannot be read as JSON") in said


BAD_SHAPES = [
    (shape("spline", [0, 0], [1, 1]), "shape_type 'spline'"),
    (shape("spline", [0, 0], [1, 1]), "one of polygon, rectangle, oriented_rectangle, circle, point, line"),
    (shape("polygon", [0, 0], [1, 1]), "3 or more finite [column, row] of a polygon"),
    (shape("circle", [0, 0]), "2 finite [column, row] of a circle"),
    (shape("rectangle", [0, 0], [1, float("nan")]), "2 finite"),
    (shape("rectangle", [0, 0], [1, 1e9]), "2 finite"),
    (shape("rectangle", [0, 0, 0], [1, 1, 1]), "2 finite"),
    (shape("point") | {"points": None}, "points None"),
    (shape("point") | {"points": [{}]}, "1 finite"),
    (shape("mask", [0, 0], [2, 1]), "cannot be decoded"),
    (shape("mask", [0, 0], [2, 1], mask="bm90IGEgcG5n"), "cannot be decoded"),
    (shape("mask", [0, 0], [2, 2], mask=encoded(np.ones((2, 3), np.uint8))), "3x3, from its first point"),
    (shape("mask", [0, 0], [2, 1], mask=encoded(np.ones((2, 3, 3), np.uint8))), "shape 3x3x2"),
]


@pytest.mark.parametrize(("bad", "words"), BAD_SHAPES)
def test_a_shape_that_cannot_be_drawn(
    tmp_path: Path, bad: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_scene(tmp_path / "data")
    write_json(scene / "r/images/2.json", [*rectangles(*HALVES), bad])
    said = refused(scene, capsys=capsys)
    assert "r/images/2.json, shape 3 (tissue)" in said
    assert words in said


def test_an_annotation_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "data", frames=1)
    write_json(scene / "r/images/1.json", rectangles(*HALVES), (60, 41))
    assert "found:    60x41\n  expected: 60x40" in refused(scene, capsys=capsys)
    for eye in "lr":
        (scene / eye / "images").rename(scene / eye / "rectify")
        for ending in ("png", "json"):
            (scene / eye / f"rectify/1.{ending}").rename(scene / eye / f"rectify/1_12.{ending}")
    write_json(scene / "r/rectify/1_12.json", rectangles(*HALVES), (72, 40))
    said = refused(scene, "--image_dir", "rectify", capsys=capsys)
    assert "72x40, the size before 12 px were cut off" in said


def test_labels_that_nobody_drew_or_without_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "data")
    assert "--labels tisue: no shape" in refused(scene, "--labels", "tissue", "tisue", capsys=capsys)
    class_map = tmp_path / "labels.txt"
    assert "cannot be read" in refused(scene, "--class_map", class_map, capsys=capsys)
    first = "__ignore__\n_background_\n"
    for text in ("", "tissue\ntool\n", f"{first}tool\ntool\n", f"{first}\ntool\n"):
        class_map.write_text(text)
        assert "is not a list of labels" in refused(scene, "--class_map", class_map, capsys=capsys)
    class_map.write_text(f"{first}tissue\n")
    assert "a shape is called tool, which has no class" in refused(scene, "--class_map", class_map, capsys=capsys)


def test_tissue_that_is_covered_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "data")
    write_json(scene / "l/images/2.json", rectangles(*reversed(HALVES)))
    assert "l/images/2.json marks no tissue" in refused(scene, "--labels", "tool", capsys=capsys)


def test_folders_and_names_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "data")
    assert "has no annotations" in refused(scene, "--image_dir", "rectify", capsys=capsys)
    assert "has no annotations" in refused(tmp_path / "absent", capsys=capsys)
    write_json(scene / "l/images/7.json", [])
    assert "7.json belongs to no image" in refused(scene, capsys=capsys)
    (scene / "l/images/7.json").unlink()
    shutil.copy(scene / "l/images/1.png", scene / "l/images/1.jpg")
    assert "frame 1 has two images" in refused(scene, capsys=capsys)


def test_a_broken_image_and_a_place_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "data")
    (scene / "mask_r").write_text("not a folder")
    assert "cannot be read or written" in refused(scene, capsys=capsys)
    (scene / "r/images/2.png").write_bytes(b"no image")
    assert "2.png cannot be read as an image" in refused(scene, capsys=capsys)


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "data", frames=1)
    command = [sys.executable, "-m", "utils.json2png", str(scene)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "masks for 1 of 1 in mask_l, 1 of 1 in mask_r" in done.stdout
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
