"""Camera formats: where each one's own convention puts a known point, what comes back, what is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2  # noqa: F401 - before pycolmap
import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from export.camera_set import UNKNOWN_UNIT
from export.conversion import Order, convert
from export.formats import FORMATS, read_cameras
from monocular.pose_files import read_poses
from tests.camera_runs import CENTRED, FRAMES, LEFT, POINT_WORLD, RIGHT, RIGHT_FROM_LEFT, make_run
from utils.errors import InputError
from utils.geometry import FloatArray, invert_rigid, project, transform
from utils.types import Rig

SCALE = 0.001  # of metres
PATHS = ("tum", "kitti")


def written(tmp_path: Path, name: str, **given: Any) -> Path:
    """Return a conversion of a run into one format, and the run beside it."""
    run = tmp_path / "run"
    if not run.exists() and name == "nerf-synthetic":
        make_run(run, left=CENTRED, right=None)
    elif not run.exists():
        make_run(run)
    target = tmp_path / (f"out.{name}" if FORMATS[name].single else "out")
    convert(Order(run, target, write_as=name, **given))
    return target


def expected_pixels(run: Path) -> dict[str, FloatArray]:
    """Return where the known point is in each image, by the definitions of the project alone."""
    pixels = {}
    cameras = read_cameras(run)
    for name, pose, camera in zip(cameras.names, cameras.world_from_camera, cameras.cameras, strict=True):
        assert camera is not None
        pixels[name] = project(camera.matrix, transform(invert_rigid(pose), POINT_WORLD))[0]
    return pixels


# What each format says of itself, written out from its documentation; pixels are of the format's own counting.


def opengl_pixel(
    frame: dict[str, Any], point: FloatArray, fx: float, fy: float, cx: float, cy: float
) -> FloatArray:
    right, up, back, _ = np.linalg.inv(np.array(frame["transform_matrix"])) @ [*point, 1.0]
    return np.array([fx * right / -back + cx, fy * -up / -back + cy])


def seen_by_transforms(target: Path) -> dict[str, FloatArray]:
    record = json.loads((target / "transforms.json").read_text())
    pixels = {}
    for name, frame in zip(record["specula"]["names"], record["frames"], strict=True):
        values = record | frame
        pixel = opengl_pixel(frame, POINT_WORLD * SCALE, *(values[key] for key in ("fl_x", "fl_y", "cx", "cy")))
        pixels[name] = pixel - 0.5  # the ray of pixel 0 goes through 0.5
    return pixels


def seen_by_synthetic(target: Path) -> dict[str, FloatArray]:
    pixels = {}
    for split in ("train", "test"):
        record = json.loads((target / f"transforms_{split}.json").read_text())
        width, height = 40, 32
        focal = 0.5 * width / np.tan(0.5 * record["camera_angle_x"])
        for frame in record["frames"]:
            pixel = opengl_pixel(frame, POINT_WORLD * SCALE, focal, focal, width / 2, height / 2)
            pixels[Path(frame["file_path"]).name.replace("left_", "left/") + ".png"] = pixel - 0.5
    return pixels


def seen_by_llff(target: Path) -> dict[str, FloatArray]:
    rows = np.load(target / "poses_bounds.npy")
    names = json.loads((target / "specula.json").read_text())["names"]
    pixels: dict[str, FloatArray] = {}
    for name, row in zip(names, rows, strict=True):
        table = row[:15].reshape(3, 5)
        down, right, back = table[:, :3].T @ (POINT_WORLD * SCALE - table[:, 3])
        height, width, focal = table[:, 4]
        pixels[name] = np.array([focal * right / -back + width / 2, focal * down / -back + height / 2]) - 0.5
    return pixels


def colmap_pixel(quaternion: Any, translation: Any, parameters: Any, point: FloatArray) -> FloatArray:
    w, x, y, z = quaternion
    rotation = np.array(
        [
            [1 - 2 * y * y - 2 * z * z, 2 * x * y - 2 * w * z, 2 * x * z + 2 * w * y],
            [2 * x * y + 2 * w * z, 1 - 2 * x * x - 2 * z * z, 2 * y * z - 2 * w * x],
            [2 * x * z - 2 * w * y, 2 * y * z + 2 * w * x, 1 - 2 * x * x - 2 * y * y],
        ]
    )
    seen = rotation @ point + translation
    fx, fy, cx, cy = parameters
    return np.array([fx * seen[0] / seen[2] + cx, fy * seen[1] / seen[2] + cy]) - 0.5


def seen_by_colmap_text(target: Path) -> dict[str, FloatArray]:
    def lines(name: str) -> list[list[str]]:
        text = (target / "sparse" / "0" / name).read_text().split("\n")
        return [line.split() for line in text if not line.startswith("#")]

    parameters = {words[0]: [float(word) for word in words[4:]] for words in lines("cameras.txt") if words}
    pixels = {}
    for words in filter(None, lines("images.txt")):
        values = [float(word) for word in words[1:8]]
        point = POINT_WORLD * SCALE
        pixels[words[9]] = colmap_pixel(values[:4], values[4:], parameters[words[8]], point)
    return pixels


def seen_by_colmap(target: Path) -> dict[str, FloatArray]:
    data = (target / "sparse" / "0" / "cameras.bin").read_bytes()
    parameters, place = {}, 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        number, model, width, height, *numbers = struct.unpack_from("<iiQQ4d", data, place)
        assert (model, width, height) == (1, 40, 32)  # 1: PINHOLE
        parameters[number] = numbers
        place += 56
    data = (target / "sparse" / "0" / "images.bin").read_bytes()
    pixels, place = {}, 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        values = struct.unpack_from("<I7dI", data, place)
        end = data.index(b"\0", place + 64)
        name = data[place + 64 : end].decode()
        assert struct.unpack_from("<Q", data, end + 1) == (0,)  # no observations
        pixels[name] = colmap_pixel(values[1:5], values[5:8], parameters[values[8]], POINT_WORLD * SCALE)
        place = end + 9
    return pixels


def seen_by_neus(target: Path) -> dict[str, FloatArray]:
    names = json.loads((target / "specula.json").read_text())["names"]
    with np.load(target / "cameras.npz") as file:
        point = np.array([*(POINT_WORLD * SCALE), 1.0])
        rows = [file[f"world_mat_{k}"] @ point for k in range(len(names))]
    return {name: row[:2] / row[2] for name, row in zip(names, rows, strict=True)}


def seen_by_tum(target: Path) -> dict[str, FloatArray]:
    pixels = {}
    for line in target.read_text().splitlines():
        if line.startswith("#"):
            continue
        stamp, *values = line.split()
        numbers = np.array([float(value) for value in values])
        seen = Rotation.from_quat(numbers[3:]).as_matrix().T @ (POINT_WORLD * SCALE - numbers[:3])
        pixels[f"left/{stamp}.png"] = (LEFT.matrix @ seen)[:2] / seen[2]
    return pixels


def seen_by_kitti(target: Path) -> dict[str, FloatArray]:
    pixels = {}
    for frame, line in zip(FRAMES, target.read_text().splitlines(), strict=True):
        pose = np.array(line.split(), float).reshape(3, 4)
        seen = pose[:, :3].T @ (POINT_WORLD * SCALE - pose[:, 3])
        pixels[f"left/{frame}.png"] = (LEFT.matrix @ seen)[:2] / seen[2]
    return pixels


SEEN: dict[str, Callable[[Path], dict[str, FloatArray]]] = {
    "nerfstudio": seen_by_transforms,
    "instant-ngp": seen_by_transforms,
    "nerf-synthetic": seen_by_synthetic,
    "colmap": seen_by_colmap,
    "colmap-text": seen_by_colmap_text,
    "neus": seen_by_neus,
    "tum": seen_by_tum,
    "kitti": seen_by_kitti,
}


@pytest.mark.parametrize("name", list(SEEN))
def test_a_known_point_is_where_the_format_says_in_every_image(tmp_path: Path, name: str) -> None:
    target = written(tmp_path, name, unit="m")
    expected = expected_pixels(tmp_path / "run")
    seen = SEEN[name](target)
    assert set(seen) == {image for image in expected if name not in PATHS or image.startswith("left")}
    for image, pixel in seen.items():
        np.testing.assert_allclose(pixel, expected[image], atol=1e-9)


def test_a_known_point_is_where_llff_says_with_the_centre_for_the_principal_point(tmp_path: Path) -> None:
    make_run(tmp_path / "run", left=CENTRED, right=None)
    seen = seen_by_llff(written(tmp_path, "llff", unit="m"))
    for image, pixel in expected_pixels(tmp_path / "run").items():
        np.testing.assert_allclose(seen[image], pixel, atol=1e-9)


def test_the_npz_is_what_poses_from_a_file_are_read_from(tmp_path: Path) -> None:
    target = written(tmp_path, "npz")
    cameras = read_cameras(tmp_path / "run")
    with np.load(target.rename(tmp_path / "poses.npz")) as file:
        assert bool(file["metric"])
        np.testing.assert_array_equal(file["names"], FRAMES)
        np.testing.assert_array_equal(file["world_from_right"], cameras.world_from_camera[3:])
    found = read_poses(tmp_path / "poses.npz", FRAMES, Rig(LEFT), tmp_path)
    assert found.metric
    np.testing.assert_allclose(found.sfm_from_left, cameras.world_from_camera[:3], atol=1e-12)


def test_llff_is_what_poses_from_a_file_are_read_from(tmp_path: Path) -> None:
    target = written(tmp_path, "llff", sides="left")
    found = read_poses(target / "poses_bounds.npy", FRAMES, Rig(LEFT), tmp_path)
    np.testing.assert_allclose(
        found.sfm_from_left, read_cameras(tmp_path / "run").world_from_camera[:3], atol=1e-12
    )


@pytest.mark.parametrize("name", list(FORMATS))
def test_what_was_written_is_read_back_to_1e_9(tmp_path: Path, name: str) -> None:
    target = written(tmp_path, name, **({} if name == "npz" else {"unit": "m"}))
    source, back = read_cameras(tmp_path / "run"), read_cameras(target)
    places = [source.names.index(image) for image in back.names]
    assert len(set(places)) == (len(FRAMES) if name in PATHS else len(source.names))
    chosen = source.only(places)
    np.testing.assert_allclose(back.world_from_camera, chosen.world_from_camera, rtol=0, atol=1e-9)
    assert back.cameras == chosen.cameras
    assert (back.unit, back.splits) == ("mm", chosen.splits)
    assert back.bounds is not None
    assert (back.bounds[:, 0] > 49).all()
    assert (back.bounds[:, 1] < 71).all()


def without_record(target: Path) -> Path:
    """Forget all that only this program reads."""
    (target / "specula.json" if target.is_dir() else Path(f"{target}.specula.json")).unlink(missing_ok=True)
    for file in target.glob("*.json") if target.is_dir() else ():
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "specula"}))
    return target


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "npz"])
def test_a_file_of_others_is_read_as_far_as_the_format_holds(tmp_path: Path, name: str) -> None:
    target = without_record(written(tmp_path, name, unit="m"))
    source, back = read_cameras(tmp_path / "run").scaled(SCALE), read_cameras(target)
    order = [1, 2, 0] if name == "nerf-synthetic" else range(len(back.names))
    np.testing.assert_allclose(back.world_from_camera, source.only(list(order)).world_from_camera, atol=1e-9)
    assert back.unit == UNKNOWN_UNIT
    if name in PATHS:
        assert set(back.cameras) == {None}
        return
    for camera, true in zip(back.cameras, source.only(list(order)).cameras, strict=True):
        assert camera is not None
        assert true is not None
        if name == "llff":
            expected = (true.fx, true.fx, 19.5, 15.5, 40, 32)
        else:
            expected = (true.fx, true.fy, true.cx, true.cy, true.width, true.height)
        found = (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_instant_ngp_has_the_points_in_its_unit_cube_without_scaling_the_poses(tmp_path: Path) -> None:
    target = written(tmp_path, "instant-ngp")
    record = json.loads((target / "transforms.json").read_text())
    assert record["frames"][1]["transform_matrix"][0][3] == 1.5  # mm
    points = np.array([[-19.0, -19.0, 51.0], [19.0, 19.0, 69.0]])
    cube = points * record["scale"] + record["offset"]
    assert ((cube > 0) & (cube < 1)).all()
    assert np.ptp(cube, axis=0).max() > 0.7


def test_the_sphere_of_neus_holds_the_points(tmp_path: Path) -> None:
    with np.load(written(tmp_path, "neus") / "cameras.npz") as file:
        inverse = np.linalg.inv(file["scale_mat_0"])
    corners = transform(inverse, np.array([[-19.0, -19.0, 51.0], [19.0, 19.0, 69.0], [0.0, 0.0, 60.0]]))
    assert (np.linalg.norm(corners, axis=1) < 1).all()
    assert np.linalg.norm(corners[0]) > 0.7


def test_a_projection_of_the_other_sign_is_the_same_camera(tmp_path: Path) -> None:
    target = without_record(written(tmp_path, "neus"))
    whole = read_cameras(target)
    with np.load(target / "cameras.npz") as file:
        arrays = {key: -2.5 * file[key] if key.startswith("world") else file[key] for key in file.files}
    np.savez(target / "cameras.npz", **arrays)
    again = read_cameras(target)
    np.testing.assert_allclose(again.world_from_camera, whole.world_from_camera, atol=1e-9)
    for one, other in zip(again.cameras, whole.cameras, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-9)


def test_a_colmap_model_has_the_cloud_as_its_points(tmp_path: Path) -> None:
    text = (written(tmp_path, "colmap-text", unit="m") / "sparse" / "0" / "points3D.txt").read_text()
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    z = np.array([float(row[3]) for row in rows])
    assert len(rows) == 30
    assert (z > 0.05).all()
    assert (z < 0.07).all()


def test_a_cloud_of_other_poses_is_not_used(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "export" / "stamp.json").write_text(json.dumps({"inputs": {"poses": "older"}, "hash": "x"}))
    text = (written(tmp_path, "colmap-text") / "sparse" / "0" / "points3D.txt").read_text()
    assert all(line.startswith("#") for line in text.splitlines())


def test_the_two_eyes_stand_to_each_other_as_the_rig_says(tmp_path: Path) -> None:
    cameras = read_cameras(written(tmp_path, "colmap"))
    left, right = (cameras.world_from_camera[cameras.names.index(f"{eye}/2.png")] for eye in ("left", "right"))
    np.testing.assert_allclose(invert_rigid(right) @ left, RIGHT_FROM_LEFT, atol=1e-12)
    assert cameras.cameras[cameras.names.index("right/2.png")] == RIGHT


def test_a_foreign_transforms_file_with_an_angle_alone_is_centred(tmp_path: Path) -> None:
    frame = {"file_path": "./train/r_0", "transform_matrix": np.eye(4).tolist()}
    record = {"camera_angle_x": 2 * np.arctan(0.5), "w": 40, "h": 32, "frames": [frame]}
    (tmp_path / "transforms_train.json").write_text(json.dumps(record))
    cameras = read_cameras(tmp_path)
    camera = cameras.cameras[0]
    assert camera is not None
    np.testing.assert_allclose([camera.fx, camera.fy, camera.cx, camera.cy], [40, 40, 19.5, 15.5], atol=1e-12)
    np.testing.assert_array_equal(cameras.world_from_camera[0], np.diag([1.0, -1.0, -1.0, 1.0]))
    assert (cameras.names, cameras.splits) == (("train/r_0",), ("train",))


def test_lens_distortion_is_named(tmp_path: Path) -> None:
    target = without_record(written(tmp_path, "nerfstudio"))
    record = json.loads((target / "transforms.json").read_text())
    record["frames"][0]["k1"] = -0.2
    (target / "transforms.json").write_text(json.dumps(record))
    assert read_cameras(target).missing == ("lens distortion (k1): undistort the images",)


def test_mirrored_cameras_are_read_as_they_are_and_never_converted(tmp_path: Path) -> None:
    target = without_record(written(tmp_path, "kitti"))
    rows = np.loadtxt(target).reshape(-1, 3, 4)
    rows[1, :, 0] *= -1
    np.savetxt(target, rows.reshape(-1, 12))
    assert np.linalg.det(read_cameras(target).world_from_camera[1, :3, :3]) == pytest.approx(-1)
    with pytest.raises(InputError, match="000001 first") as refusal:
        convert(Order(target, tmp_path / "x.npz"))
    assert "determinant -1" in str(refusal.value)


def transforms(**given: Any) -> bytes:
    """Return a transforms.json of one camera, with other values."""
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}
    record = {"fl_x": 9.0, "w": 4, "h": 4, "frames": [frame]} | given
    return json.dumps({key: value for key, value in record.items() if value is not None}).encode()


BROKEN: dict[str, tuple[str, bytes]] = {
    "a number for a list of files": ("transforms.json", transforms(train_filenames=5)),
    "lists for files": ("transforms.json", transforms(val_filenames=[["x"]])),
    "no angle of view": ("transforms.json", transforms(fl_x=None, camera_angle_x=0)),
    "an infinite width": ("transforms.json", transforms().replace(b'"w": 4', b'"w": 1e400')),
    "a panorama": ("transforms.json", transforms(camera_model="EQUIRECTANGULAR")),
    "a list for a model": ("transforms.json", transforms(camera_model=["OPENCV"])),
    "not JSON": ("transforms.json", b'{"frames": ['),
    "no frames": ("transforms.json", b'{"frames": []}'),
    "no matrix": ("transforms.json", b'{"frames": [{"file_path": "a.png"}]}'),
    "a matrix of another shape": (
        "transforms.json",
        b'{"frames": [{"file_path": "a.png", "transform_matrix": [[1, 0], [0, 1]]}]}',
    ),
    "NaN": (
        "transforms.json",
        b'{"frames": [{"file_path": "a.png", "transform_matrix": [[NaN,0,0,0],[0,1,0,0],[0,0,1,0]]}]}',
    ),
    "words for numbers": (
        "transforms.json",
        b'{"fl_x": "wide", "w": 4, "h": 4, "frames": [{"file_path": "a.png", "transform_matrix": '
        b"[[1,0,0,0],[0,1,0,0],[0,0,1,0]]}]}",
    ),
    "no width": (
        "transforms.json",
        b'{"fl_x": 9, "w": 0, "h": 4, "frames": [{"file_path": "a.png", "transform_matrix": '
        b"[[1,0,0,0],[0,1,0,0],[0,0,1,0]]}]}",
    ),
    "no numpy file": ("poses_bounds.npy", b"17 numbers"),
    "no npz": ("cameras.npz", b"PK\x03\x04 broken"),
    "a short line": ("a.tum", b"0 1 2 3 0 0 0 1\n1 1 2 3 0 0 0\n"),
    "no quaternion": ("b.tum", b"0 1 2 3 0 0 0 2\n"),
    "a word": ("c.kitti", b"1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 x\n"),
    "infinity": ("d.kitti", b"1 0 0 0 0 1 0 0 0 0 1 inf\n"),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_broken_file_is_refused_by_its_name(tmp_path: Path, what: str) -> None:
    name, content = BROKEN[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_cameras(tmp_path / name)


ONE_POSE: dict[str, Any] = {"names": ["1"], "world_from_left": np.eye(4)[None]}


@pytest.mark.parametrize(
    ("name", "arrays", "found"),
    [
        ("p.npz", ONE_POSE | {"names": "1"}, r"names of shape \(\)"),
        ("p.npz", {"names": np.zeros(0, str), "world_from_left": np.zeros((0, 4, 4))}, r"names of shape \(0,\)"),
        ("p.npz", ONE_POSE | {"metric": [True, False]}, r"metric of shape \(2,\)"),
        ("p.npz", ONE_POSE | {"metric": "no"}, "metric of shape .* type <U2"),
        ("p.npz", ONE_POSE | {"world_from_left": np.full((1, 4, 4), "x")}, "world_from_left of type <U1"),
        ("p.npz", ONE_POSE | {"specula": '{"names": [1], "cameras": [null]}'}, "a record of other cameras"),
        ("cameras.npz", {"world_mat_0": np.full((4, 4), "x")}, "world_mat_0 of type <U1"),
        ("cameras.npz", {"world_mat_0": np.eye(4), "world_mat_01": np.eye(4)}, "no plain numbers"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, name: str, arrays: dict[str, Any], found: str) -> None:
    np.savez(tmp_path / name, **arrays)
    with pytest.raises(InputError, match=rf"{name}(.|\n)*{found}"):
        read_cameras(tmp_path / name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cameras", [{"fx": "x", "fy": 1.0, "cx": 1.0, "cy": 1.0, "width": 4, "height": 4}] * 3),
        ("cameras", [{"fx": 0.0, "fy": 1.0, "cx": 1.0, "cy": 1.0, "width": 4, "height": 4}] * 3),
        ("cameras", [{"fx": 1.0, "fy": 1.0, "cx": float("nan"), "cy": 1.0, "width": 4, "height": 4}] * 3),
        ("cameras", [{"fx": 1.0, "fy": 1.0, "cx": 1.0, "cy": 1.0, "width": 10**400, "height": 4}] * 3),
        ("scale", float("nan")),
        ("scale", float("inf")),
        ("splits", ["train"]),
        ("bounds", [[1.0, float("nan")]] * 3),
    ],
)
def test_a_record_with_impossible_numbers_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    target = written(tmp_path, "kitti")
    record = target.with_name("out.kitti.specula.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {key: value}))
    with pytest.raises(InputError, match=r"out\.kitti\.specula\.json"):
        read_cameras(target)


def test_a_fisheye_lens_is_named(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_bytes(transforms(camera_model="OPENCV_FISHEYE"))
    assert read_cameras(tmp_path).missing == ("lens distortion (OPENCV_FISHEYE): undistort the images",)


@pytest.mark.parametrize("shape", [(20, 16), (0, 17), (17,)])
def test_an_llff_file_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "poses_bounds.npy", np.ones(shape))
    with pytest.raises(InputError, match=r"poses_bounds\.npy"):
        read_cameras(tmp_path)


@pytest.mark.parametrize("file", ["cameras.bin", "images.bin"])
def test_a_truncated_colmap_model_is_refused(tmp_path: Path, file: str) -> None:
    model = written(tmp_path, "colmap") / "sparse" / "0"
    whole = (model / file).read_bytes()
    (model / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"sparse/0/{file}"):
        read_cameras(tmp_path / "out")


def test_a_colmap_text_model_with_words_for_numbers_is_refused(tmp_path: Path) -> None:
    model = written(tmp_path, "colmap-text") / "sparse" / "0"
    (model / "cameras.txt").write_text("1 PINHOLE forty 32 1 2 3 4\n")
    with pytest.raises(InputError, match=r"cameras\.txt"):
        read_cameras(tmp_path / "out")


@pytest.mark.parametrize(
    ("model", "parameters", "focal", "bent"),
    [
        ("SIMPLE_PINHOLE", "50 20 16", (50, 50), False),
        ("SIMPLE_RADIAL", "50 20 16 0", (50, 50), False),
        ("SIMPLE_RADIAL", "50 20 16 0.1", (50, 50), True),
        ("OPENCV", "50 60 20 16 0 0 0 1e-3", (50, 60), True),
        ("OPENCV_FISHEYE", "50 60 20 16 0 0 0 0", (50, 60), True),
    ],
)
def test_colmap_cameras_of_other_models_keep_their_pinhole_part(
    tmp_path: Path, model: str, parameters: str, focal: tuple[float, float], bent: bool
) -> None:
    (tmp_path / "cameras.txt").write_text(f"# Camera list\n7 {model} 40 32 {parameters}\n")
    image = "1 0 0 0 0 0 0 7 a name.png\n"
    (tmp_path / "images.txt").write_text(f"# Image list\n5 {image}\n2 {image}1.5 2.5 -1\n")
    cameras = read_cameras(tmp_path)
    camera = cameras.cameras[0]
    assert camera is not None
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (*focal, 19.5, 15.5)
    assert cameras.names == ("a name.png", "a name.png")
    assert bool(cameras.missing) == bent
    again = pycolmap_parameters(tmp_path / "cameras.txt", model)
    assert again == (camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5)


def pycolmap_parameters(file: Path, model: str) -> tuple[float, ...]:
    """Return focal lengths and principal point of the camera as COLMAP understands its parameters."""
    parameters = [float(word) for word in file.read_text().split("\n")[1].split()[4:]]
    camera = pycolmap.Camera(camera_id=1, model=model, width=40, height=32, params=parameters)
    matrix = camera.calibration_matrix()
    return tuple(float(matrix[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))


def test_a_record_of_other_cameras_is_refused(tmp_path: Path) -> None:
    target = written(tmp_path, "kitti")
    target.write_text(target.read_text().partition("\n")[2])
    with pytest.raises(InputError, match=r"out\.kitti\.specula\.json"):
        read_cameras(target)


def test_what_is_no_camera_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    for path in (tmp_path / "notes.txt", tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=path.name):
            read_cameras(path)


def test_llff_beside_another_number_of_images_names_nobody(tmp_path: Path) -> None:
    target = without_record(written(tmp_path, "llff"))
    next((target / "images").iterdir()).unlink()
    cameras = read_cameras(target)
    assert cameras.names[0] == "0000"
    assert "5 images beside 6 rows" in cameras.notes[0]
