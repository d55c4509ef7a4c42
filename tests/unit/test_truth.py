"""Truth maps: every format, unit and size, disparity of a rectified pair, undistortion, bad files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import truth
from evaluation.options import EvaluationOptions
from utils.artifacts import read_json, write_json
from utils.errors import InputError
from utils.geometry import rigid
from utils.images import read_map
from utils.scene import Scene
from utils.stored_maps import depth_from_disparity
from utils.types import Camera, Rig

LEFT = Camera(fx=100.0, fy=100.0, cx=7.0, cy=5.5, width=16, height=12)
RIGHT = replace(LEFT, cx=10.0)
BASELINE_MM = 4.0
SHIFTED = rigid(np.eye(3), np.array([-BASELINE_MM, 0.0, 0.0]))
DEPTH_MM = np.linspace(40.0, 80.0, 12 * 16).reshape(12, 16)


def make_dataset(folder: Path, **maps: np.ndarray) -> EvaluationOptions:
    """Write a dataset with one image an eye; `l_depth_png=...` becomes l/depth/1.png."""
    for side in ("l", "r"):
        (folder / side / "images").mkdir(parents=True)
        cv2.imwrite(str(folder / side / "images" / "1.png"), np.full((12, 16, 3), 90, np.uint8))
    for key, values in maps.items():
        side, kind, ending = key.split("_")
        write_map(folder / side / kind / f"1.{ending}", values)
    return EvaluationOptions(datadir=str(folder))


def write_map(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".pfm":
        header = f"Pf\n{values.shape[1]} {values.shape[0]}\n-1.0\n".encode()
        path.write_bytes(header + values[::-1].astype("<f4").tobytes())
    else:
        if path.suffix == ".exr":
            with pytest.raises(InputError):
                read_map(path)  # the first look at an EXR switches OpenCV's codec on
        assert cv2.imwrite(str(path), values)


def make_scene(
    folder: Path,
    *,
    rig: Rig | None = None,
    factor: int = 1,
    distortion: tuple[float, ...] = (),
) -> Scene:
    stored = rig or Rig(LEFT, RIGHT, SHIFTED)
    cameras = [
        camera.resized(16 // factor, 12 // factor) if camera else None for camera in (stored.left, stored.right)
    ]
    assert cameras[0] is not None
    used = Rig(cameras[0], cameras[1], stored.right_from_left)
    images = {f"{side}_1": f"/data/{side[0]}/images/1.png" for side in stored.sides}
    scene = Scene(folder, used, ("1",), ("1",), (), stored.sides, images)
    lenses = {
        side: {"camera": asdict(stored.camera(side)), "distortion": list(distortion)} for side in stored.sides
    }
    scene.save({"lenses": lenses})
    return scene


def read(options: EvaluationOptions, scene: Scene, side: Any = "left") -> np.ndarray:
    values = truth.read_truth(options, scene, truth.load_lenses(scene.folder), side, "1")
    assert values is not None
    return values


@pytest.mark.parametrize("ending", ["npy", "tiff", "pfm", "exr"])
def test_float_maps_are_millimetres(tmp_path: Path, ending: str) -> None:
    depth_mm = DEPTH_MM.astype(np.float32)
    depth_mm[0, :4] = [0.0, np.inf, np.nan, -3.0]
    options = make_dataset(tmp_path / "data", **{f"l_depth_{ending}": depth_mm})
    truth.check(options)
    found = read(options, make_scene(tmp_path / "scene"))
    assert found.dtype == np.float32
    assert np.isnan(found[0, :4]).all()
    np.testing.assert_allclose(found[1:], depth_mm[1:], rtol=1e-6)


def test_png_counts_in_its_unit_and_zero_is_unknown(tmp_path: Path) -> None:
    units = np.full((12, 16), 5000, np.uint16)
    units[2, 3] = 0
    options = replace(make_dataset(tmp_path / "data", l_depth_png=units), depth_png_mm=0.01)
    truth.check(options)
    found = read(options, make_scene(tmp_path / "scene"))
    assert found[0, 0] == pytest.approx(50.0)
    assert np.isnan(found[2, 3])
    assert np.isfinite(found).sum() == found.size - 1


def test_a_frame_without_truth_is_none(tmp_path: Path) -> None:
    options = make_dataset(tmp_path / "data")
    scene = make_scene(tmp_path / "scene")
    assert truth.read_truth(options, scene, truth.load_lenses(scene.folder), "left", "1") is None


@pytest.mark.parametrize("side", ["left", "right"])
def test_disparity_becomes_depth_with_the_offset_of_the_principal_points(tmp_path: Path, side: Any) -> None:
    disparity_px = np.full((12, 16), 5.0, np.float32)  # 100 * 4 / (5 - (7 - 10)) = 50 mm; forgotten: 80 mm
    disparity_px[0, :4] = [np.nan, np.inf, -3.0, -4.0]  # unknown, unknown, infinitely far, behind
    options = make_dataset(tmp_path / "data", **{f"{side[0]}_disparity_npy": disparity_px})
    truth.check(options)
    found = read(options, make_scene(tmp_path / "scene"), side)
    assert np.isnan(found[0, :4]).all()
    assert found[1:] == pytest.approx(50.0)
    assert found[0, 4] == pytest.approx(50.0)


def test_disparity_png_counts_in_its_unit(tmp_path: Path) -> None:
    units = np.full((12, 16), 5 * 256, np.uint16)
    units[0, 0] = 0
    options = make_dataset(tmp_path / "data", l_disparity_png=units)
    with pytest.raises(InputError, match="disparity_png_px"):
        truth.check(options)
    options = replace(options, disparity_png_px=1 / 256)
    found = read(options, make_scene(tmp_path / "scene"))
    assert np.isnan(found[0, 0])
    assert found[5, 5] == pytest.approx(50.0)


def test_zero_disparity_is_a_measurement_where_the_principal_points_differ(tmp_path: Path) -> None:
    options = make_dataset(tmp_path / "data", l_disparity_npy=np.zeros((12, 16), np.float32))
    assert read(options, make_scene(tmp_path / "scene"))[3, 3] == pytest.approx(400 / 3)


@given(st.floats(20.0, 500.0), st.floats(-30, 30), st.floats(0.5, 50.0))
def test_depth_from_disparity_inverts_the_projection(
    depth_mm: float, offset_px: float, baseline_mm: float
) -> None:
    left, right = replace(LEFT, cx=7 + offset_px), replace(LEFT, cx=7.0)
    x_left = left.fx * 3.0 / depth_mm + left.cx
    x_right = right.fx * (3.0 - baseline_mm) / depth_mm + right.cx
    found = depth_from_disparity(np.array([x_left - x_right]), left, right, baseline_mm)
    assert found[0] == pytest.approx(depth_mm, rel=1e-6)


def test_depth_wins_where_both_forms_are_there(tmp_path: Path) -> None:
    both = {"l_depth_npy": DEPTH_MM, "l_disparity_npy": np.full((12, 16), 5.0)}
    options = make_dataset(tmp_path / "data", **both)
    assert read(options, make_scene(tmp_path / "scene"))[0, 0] == pytest.approx(40.0)
    assert len(truth.files(options)) == 2


TURNED = np.asarray(cv2.Rodrigues(np.array([0.0, np.radians(2.0), 0.0]))[0], np.float64)


@pytest.mark.parametrize(
    ("rig", "word"),
    [
        (Rig(LEFT, RIGHT, rigid(TURNED, np.array([-4.0, 0, 0]))), "rotated by 2.000 degrees"),
        (Rig(LEFT, RIGHT, rigid(np.eye(3), np.array([4.0, 0, 0]))), r"T = \(4, 0, 0\)"),
        (Rig(LEFT, RIGHT, rigid(np.eye(3), np.array([-4.0, 1.0, 0]))), r"T = \(-4, 1, 0\)"),
        (Rig(LEFT, replace(RIGHT, fx=110.0), SHIFTED), "fx 100.00 and 110.00"),
        (Rig(LEFT, replace(RIGHT, cy=9.0), SHIFTED), "cy 5.50 and 9.00"),
        (Rig(LEFT), "no calibrated right eye"),
    ],
)
def test_disparity_of_a_pair_that_is_not_rectified_is_refused(tmp_path: Path, rig: Rig, word: str) -> None:
    options = make_dataset(tmp_path / "data", l_disparity_npy=np.full((12, 16), 5.0))
    with pytest.raises(InputError, match=word):
        read(options, make_scene(tmp_path / "scene", rig=rig))


def test_disparity_of_a_distorted_camera_is_refused(tmp_path: Path) -> None:
    options = make_dataset(tmp_path / "data", l_disparity_npy=np.full((12, 16), 5.0))
    with pytest.raises(InputError, match="distortion"):
        read(options, make_scene(tmp_path / "scene", distortion=(0.1, 0, 0, 0)))


def test_disparity_beside_a_verged_calibration_file_is_refused_before_any_stage(tmp_path: Path) -> None:
    options = make_dataset(tmp_path / "data", l_disparity_npy=np.full((12, 16), 5.0))
    storage = cv2.FileStorage(str(tmp_path / "data" / "calib.yaml"), cv2.FILE_STORAGE_WRITE)
    storage.write("R", TURNED)
    storage.write("T", np.array([[-4.0], [0.0], [0.0]]))
    storage.release()
    with pytest.raises(InputError, match=r"rotated by 2\.000 degrees"):
        truth.check(options)


def test_factor_picks_values_and_never_averages_across_an_edge(tmp_path: Path) -> None:
    depth_mm = np.full((12, 16), 50.0, np.float32)
    depth_mm[:, 7:] = 80.0
    depth_mm[4:8, 2:6] = 0.0
    options = make_dataset(tmp_path / "data", l_depth_npy=depth_mm)
    found = read(options, make_scene(tmp_path / "scene", factor=2))
    assert found.shape == (6, 8)
    assert set(np.unique(found[np.isfinite(found)])) == {50.0, 80.0}
    assert np.isnan(found[2:4, 1:3]).all()


def test_factor_keeps_the_stored_cameras_for_disparity(tmp_path: Path) -> None:
    """A disparity of the stored image must not meet the halved focal length."""
    options = make_dataset(tmp_path / "data", l_disparity_npy=np.full((12, 16), 5.0))
    assert read(options, make_scene(tmp_path / "scene", factor=2))[0, 0] == pytest.approx(50.0)


def test_a_calibrated_right_eye_without_images_still_gives_disparity_its_depth(tmp_path: Path) -> None:
    options = make_dataset(tmp_path / "data", l_disparity_npy=np.full((12, 16), 5.0))
    scene = make_scene(tmp_path / "scene", factor=2)
    record = read_json(scene.folder / "frames.json")
    del record["lenses"]["right"]
    write_json(scene.folder / "frames.json", record)
    assert read(options, scene)[0, 0] == pytest.approx(50.0)


def test_undistortion_moves_truth_like_the_image(tmp_path: Path) -> None:
    """Paint each pixel with its column: the undistorted map must show where it looked in the stored one."""
    columns = np.tile(np.arange(1.0, 17.0, dtype=np.float32), (12, 1))
    options = make_dataset(tmp_path / "data", l_depth_npy=columns)
    distortion = (-20.0, 0.0, 0.0, 0.0)
    found = read(options, make_scene(tmp_path / "scene", distortion=distortion))
    x, y = (13 - LEFT.cx) / LEFT.fx, (2 - LEFT.cy) / LEFT.fy
    looked_at = LEFT.fx * x * (1 - 20.0 * (x * x + y * y)) + LEFT.cx
    assert found[2, 13] == round(looked_at) + 1
    assert round(looked_at) < 13


def test_an_undistorted_view_beyond_the_stored_image_is_unknown(tmp_path: Path) -> None:
    options = make_dataset(tmp_path / "data", l_depth_npy=DEPTH_MM)
    found = read(options, make_scene(tmp_path / "scene", distortion=(20.0, 0.0, 0.0, 0.0)))
    assert np.isnan(found[0, 15])
    assert np.isfinite(found[6, 7])


BAD_MAPS: dict[str, tuple[str, np.ndarray]] = {
    "8 bits": ("l_depth_png", np.full((12, 16), 50, np.uint8)),
    "colour PNG": ("l_depth_png", np.full((12, 16, 3), 50, np.uint16)),
    "another size": ("l_depth_npy", np.ones((6, 8))),
    "two axes": ("l_depth_npy", np.ones((12, 16, 1))),
}


@pytest.mark.parametrize("word", BAD_MAPS)
def test_bad_maps_are_found_before_any_stage_and_when_reading(tmp_path: Path, word: str) -> None:
    key, values = BAD_MAPS[word]
    options = replace(make_dataset(tmp_path / "data", **{key: values}), depth_png_mm=0.01)
    with pytest.raises(InputError, match=word):
        truth.check(options)
    with pytest.raises(InputError, match=word):
        read(options, make_scene(tmp_path / "scene"))


def test_a_depth_png_without_unit_names_the_flag(tmp_path: Path) -> None:
    options = make_dataset(tmp_path / "data", r_depth_png=np.full((12, 16), 5000, np.uint16))
    with pytest.raises(InputError, match="--depth_png_mm"):
        truth.check(options)


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan")])
def test_a_unit_must_be_positive(tmp_path: Path, unit: float) -> None:
    with pytest.raises(InputError, match="--depth_png_mm is no unit"):
        truth.check(replace(make_dataset(tmp_path / "data"), depth_png_mm=unit))


@pytest.mark.parametrize("ending", ["png", "npy", "pfm", "tiff"])
def test_a_broken_file_is_named(tmp_path: Path, ending: str) -> None:
    options = replace(make_dataset(tmp_path / "data"), depth_png_mm=0.01)
    path = tmp_path / "data" / "l" / "depth" / f"1.{ending}"
    path.parent.mkdir()
    path.write_bytes(b"Pf\n16 12\n-1\n")
    with pytest.raises(InputError, match=f"1.{ending}"):
        read(options, make_scene(tmp_path / "scene"))


def test_a_pickled_array_is_not_opened(tmp_path: Path) -> None:
    options = make_dataset(tmp_path / "data", l_depth_npy=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"1\.npy"):
        truth.check(options)


def test_rectified_images_are_matched_by_their_frame_name(tmp_path: Path) -> None:
    options = replace(make_dataset(tmp_path / "data", l_depth_npy=np.ones((6, 8))), image_dir="rectify")
    cut = tmp_path / "data" / "l" / "rectify"
    cut.mkdir()
    cv2.imwrite(str(cut / "1_96.png"), np.zeros((6, 8, 3), np.uint8))
    truth.check(options)
    cv2.imwrite(str(cut / "1_96.png"), np.zeros((6, 9, 3), np.uint8))
    with pytest.raises(InputError, match="another size"):
        truth.check(options)


def test_a_demonstration_looks_at_nothing(tmp_path: Path) -> None:
    options = replace(make_dataset(tmp_path / "data", l_depth_png=np.zeros((2, 2), np.uint8)), demo=True)
    truth.check(options)
    assert truth.files(options) == []


def test_files_that_belong_to_no_frame_are_counted(tmp_path: Path) -> None:
    options = make_dataset(tmp_path / "data", l_depth_npy=DEPTH_MM)
    assert truth.stray_truth(Path(options.datadir), ("1",)) == 0
    assert truth.stray_truth(Path(options.datadir), ("frame_1",)) == 1


MOTORCYCLE = Path(__file__).parents[2].parent / "shared" / "data" / "motorcycle"


@pytest.mark.skipif(not MOTORCYCLE.is_dir(), reason="Middlebury's Motorcycle is not at hand")
def test_motorcycle_lies_where_middlebury_says(tmp_path: Path) -> None:
    """Depth of 999.421 px * 193.001 mm / (d + 32.778): 2.0 to 4.6 m, not up to 21 m."""
    camera = Camera(999.421, 999.421, 294.182, 252.932, 741, 497)
    rig = Rig(camera, replace(camera, cx=326.96), rigid(np.eye(3), np.array([-193.001, 0, 0])))
    lenses = {side: {"camera": asdict(rig.camera(side)), "distortion": [0.0] * 5} for side in rig.sides}
    scene = Scene(tmp_path, rig, ("1",), ("1",), (), rig.sides, {})
    scene.save({"lenses": lenses})
    options = EvaluationOptions(datadir=str(MOTORCYCLE))
    truth.check(options)
    found = read(options, scene)
    assert 2000 < np.nanmin(found) < 2050
    assert 4500 < np.nanmax(found) < 4650
    assert np.isfinite(found).mean() > 0.8
