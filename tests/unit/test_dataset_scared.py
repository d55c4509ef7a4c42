"""SCARED's layout, made of a plane seen through distorting lenses: poses, points, video, and every refusal."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from tests.clinical_world import PATH, Seen, assert_refused, brown_rays, look, misses, pose, write_video
from utils.datasets import scared
from utils.datasets.options import ReaderOptions
from utils.datasets.source import Source
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.images import write_rgb
from utils.types import FloatArray, Side

SIZE = (160, 128)
MATRIX: dict[Side, FloatArray] = {
    "left": np.array([[170.0, 0, 74.5], [0, 168.0, 66.2], [0, 0, 1]]),
    "right": np.array([[171.0, 0, 90.1], [0, 169.5, 65.0], [0, 0, 1]]),
}
TERMS: dict[Side, tuple[float, ...]] = {
    "left": (-0.21, 0.06, 0.002, -0.003, 0.01),
    "right": (-0.19, 0.05, -0.001, 0.002, 0.0),
}
RIGHT_FROM_LEFT = pose((0.3, -0.8, 0.2), (-4.14, -0.02, 0.1))
KEYFRAME = ReaderOptions(part="keyframe")


def write_yaml(path: Path) -> None:
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    sides: tuple[Side, Side] = ("left", "right")
    for number, side in enumerate(sides, 1):
        storage.write(f"M{number}", MATRIX[side].astype(np.float32))
        storage.write(f"D{number}", np.array([TERMS[side]], np.float32))
    storage.write("R", RIGHT_FROM_LEFT[:3, :3].astype(np.float32))
    storage.write("T", RIGHT_FROM_LEFT[:3, 3].reshape(1, 3).astype(np.float32))
    storage.release()


def seen(world_from_left: FloatArray) -> tuple[Seen, Seen]:
    world_from_right = world_from_left @ invert_rigid(RIGHT_FROM_LEFT)
    left = look(brown_rays(MATRIX["left"], TERMS["left"], SIZE), world_from_left)
    return left, look(brown_rays(MATRIX["right"], TERMS["right"], SIZE), world_from_right)


def archive(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def tiff(points: FloatArray, photometric: str = "rgb") -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, points.astype(np.float32), photometric=photometric, planarconfig="contig")
    return stream.getvalue()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dataset_3/keyframe_2 as released: calibration, measured pair, video, archives."""
    folder = tmp_path_factory.mktemp("scared") / "dataset_3" / "keyframe_2"
    (folder / "data").mkdir(parents=True)
    write_yaml(folder / "endoscope_calibration.yaml")
    left, right = seen(PATH[0])
    for view, side in ((left, "left"), (right, "right")):
        write_rgb(folder / f"{side.title()}_Image.png", view.image)
        points = view.points.copy()
        points[:9] = np.nan
        (folder / f"{side}_depth_map.tiff").write_bytes(tiff(points))
    write_video(folder / "data" / "rgb.mp4", [(left.image, right.image) for left, right in map(seen, PATH)])
    archive(folder / "data" / "frame_data.tar.gz", frame_data(PATH))
    archive(folder / "data" / "scene_points.tar.gz", scene_points(PATH))
    return folder


def frame_data(places: list[FloatArray]) -> dict[str, bytes]:
    record = {"camera-calibration": {"KL": MATRIX["left"].tolist(), "DL": list(TERMS["left"])}, "timestamp": 0}
    stored = [record | {"camera-pose": invert_rigid(place).tolist()} for place in places]
    return {f"frame_data{index:06d}.json": json.dumps(one).encode() for index, one in enumerate(stored)}


def scene_points(places: list[FloatArray]) -> dict[str, bytes]:
    files = {}
    for index, place in enumerate(places):
        stacked = np.concatenate([view.points for view in seen(place)])
        stacked[:5] = 0  # unknown is 0 here, NaN in the keyframe
        files[f"./scene_points{index:06d}.tiff"] = tiff(stacked, "minisblack")
    return files


@pytest.fixture
def folder(release: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    copy = tmp_path / "dataset_3" / "keyframe_2"
    (copy / "data").mkdir(parents=True)
    for path in release.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(release)).write_bytes(path.read_bytes())
    return copy


def refusals(source: Source) -> list[str]:
    return [f"{finding.subject}: {finding.words}" for finding in source.findings if finding.verdict == "refuse"]


def warnings(source: Source) -> str:
    return "\n".join(f"{one.subject}: {one.words}" for one in source.findings if one.verdict == "warn")


def test_a_keyframe_folder_is_recognised_and_others_are_not(release: Path, tmp_path: Path) -> None:
    assert scared.looks_like(release)
    assert not scared.looks_like(release / "data")
    assert not scared.looks_like(tmp_path)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("side", ["left", "right"])
def test_video_points_and_poses_put_every_pixel_where_it_is(release: Path, index: int, side: Side) -> None:
    source = scared.read(release, ReaderOptions())
    assert not refusals(source)
    found = misses(source, index, side)
    assert found.plane_mm < 0.01
    assert found.colour <= 1.0
    assert found.colour_99 <= 2.0
    assert found.known == pytest.approx((128 - 5) / 128 if side == "left" else 1.0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_measured_pair_alone_is_taken_on_request(release: Path, side: Side) -> None:
    source = scared.read(release, KEYFRAME)
    assert [frame.name for frame in source.frames] == ["dataset_3_keyframe_2"]
    assert source.world_from_left is None
    assert not refusals(source)
    found = misses(source, 0, side, world_from_left=np.eye(4))
    assert found.plane_mm < 0.01
    assert found.colour <= 1.0
    assert found.known == pytest.approx((128 - 9) / 128)


def test_a_fifth_keyframe_without_video_gives_its_pair(folder: Path) -> None:
    (folder / "data" / "rgb.mp4").unlink()
    assert len(scared.read(folder, ReaderOptions()).frames) == 1
    with pytest.raises(InputError, match="no images of SCARED"):
        scared.read(folder, ReaderOptions(part="video"))


def test_every_start_stop_take_frames_by_number(release: Path) -> None:
    source = scared.read(release, ReaderOptions(start=1, every=2))
    assert [frame.name for frame in source.frames] == ["000001", "000003"]
    assert source.world_from_left is not None
    np.testing.assert_allclose(source.world_from_left, [PATH[1], PATH[3]], atol=1e-9)
    assert misses(source, 1, "left").colour <= 1.0
    with pytest.raises(InputError, match="no frame is chosen"):
        scared.read(release, ReaderOptions(start=4))


def test_frames_decode_in_any_order(release: Path) -> None:
    source = scared.read(release, ReaderOptions())
    for index in (3, 0, 2, 1):
        assert misses(source, index, "left").colour <= 1.0


def test_unpacked_folders_are_read_as_the_archives_are(folder: Path) -> None:
    data = folder / "data"
    for name in ("frame_data", "scene_points"):
        with tarfile.open(data / f"{name}.tar.gz") as tar:
            tar.extractall(data / name, filter="data")
        (data / f"{name}.tar.gz").unlink()
    for index, place in enumerate(PATH):
        for side, view in zip(("left", "right"), seen(place), strict=True):
            write_rgb(data / side / f"{index:06d}.png", view.image)
    (data / "rgb.mp4").unlink()
    source = scared.read(folder, ReaderOptions())
    assert not refusals(source)
    assert source.frames[2].images["left"] == data / "left" / "000002.png"
    assert misses(source, 2, "right").colour <= 1.0


def test_poses_and_points_are_compared_and_the_carried_depth_is_named(release: Path) -> None:
    source = scared.read(release, ReaderOptions())
    carried = next(one for one in source.findings if one.subject == "depth of the video")
    assert carried.verdict == "warn"
    agreed = next(one for one in source.findings if one.subject == "camera poses")
    assert agreed.verdict == "ok"
    assert source.moving_camera
    assert source.metric


def test_inverted_poses_are_refused(folder: Path) -> None:
    archive(folder / "data" / "frame_data.tar.gz", frame_data([invert_rigid(place) for place in PATH]))
    assert any("inverted" in words for words in refusals(scared.read(folder, ReaderOptions())))


def test_channels_turned_round_by_opencv_are_refused(folder: Path) -> None:
    left, _ = seen(PATH[0])
    (folder / "left_depth_map.tiff").write_bytes(tiff(left.points[..., ::-1]))
    assert any("z, y, x" in words for words in refusals(scared.read(folder, KEYFRAME)))


def test_points_of_an_undistorted_image_are_refused(folder: Path) -> None:
    rays = brown_rays(MATRIX["left"], (0.0,) * 5, SIZE)
    (folder / "left_depth_map.tiff").write_bytes(tiff(look(rays, PATH[0]).points))
    assert any("undistorted image" in words for words in refusals(scared.read(folder, KEYFRAME)))


def test_points_of_another_camera_are_refused(folder: Path) -> None:
    _, right = seen(PATH[0])
    (folder / "left_depth_map.tiff").write_bytes(tiff(right.points))
    assert refusals(scared.read(folder, KEYFRAME))


def test_metres_are_refused_until_the_scale_is_given(folder: Path) -> None:
    left, right = seen(PATH[0])
    (folder / "left_depth_map.tiff").write_bytes(tiff(left.points / 1000))
    (folder / "right_depth_map.tiff").write_bytes(tiff(right.points / 1000))
    assert any("not mm" in words for words in refusals(scared.read(folder, KEYFRAME)))
    scaled = scared.read(folder, ReaderOptions(part="keyframe", depth_scale=1000))
    assert not refusals(scaled)
    assert misses(scaled, 0, "left", np.eye(4)).plane_mm < 0.05


def test_the_calibrations_known_to_be_wrong_are_named(folder: Path) -> None:
    bad = folder.parent.parent / "dataset_5" / "keyframe_1"
    bad.parent.mkdir()
    folder.rename(bad)
    assert "dataset 5 is known to be wrong" in warnings(scared.read(bad, KEYFRAME))


def test_another_keyframes_frame_data_is_noticed(folder: Path) -> None:
    files = {name: data.replace(b"170.0", b"199.0") for name, data in frame_data(PATH).items()}
    archive(folder / "data" / "frame_data.tar.gz", files)
    assert "differ by 29.0 px" in warnings(scared.read(folder, ReaderOptions()))


def test_a_frame_without_pose_is_left_out(folder: Path) -> None:
    archive(folder / "data" / "frame_data.tar.gz", frame_data(PATH[:3]))
    source = scared.read(folder, ReaderOptions())
    assert len(source.frames) == 3
    assert "4 in the video, 3 with a pose" in warnings(source)


def test_a_video_without_points_has_no_depth(folder: Path) -> None:
    (folder / "data" / "scene_points.tar.gz").unlink()
    source = scared.read(folder, ReaderOptions())
    assert not source.frames[0].depth_mm
    assert "no depth to compare" in warnings(source)


def test_frames_whose_pose_is_no_motion_have_none(folder: Path) -> None:
    broken = [*PATH[:2], np.diag([1.0, 1.0, -1.0, 1.0]), PATH[3]]
    archive(folder / "data" / "frame_data.tar.gz", frame_data(broken))
    source = scared.read(folder, ReaderOptions())
    assert source.world_from_left is not None
    assert np.isfinite(source.world_from_left).all(axis=(1, 2)).tolist() == [True, True, False, True]
    assert "1 of 4 are no rigid motion" in warnings(source)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILED = {
    "no calibration": (lambda f: (f / "endoscope_calibration.yaml").unlink(), "no such file", "auto"),
    "calibration cut": (lambda f: cut(f / "endoscope_calibration.yaml"), "calibration", "auto"),
    "no poses": (lambda f: (f / "data/frame_data.tar.gz").unlink(), "--part keyframe", "auto"),
    "poses cut": (lambda f: cut(f / "data/frame_data.tar.gz"), "frame_data.tar.gz cannot be read", "auto"),
    "points cut": (lambda f: cut(f / "data/scene_points.tar.gz"), "scene_points.tar.gz cannot be read", "auto"),
    "video cut": (lambda f: (f / "data/rgb.mp4").write_bytes(b"\0" * 900), "cannot be decoded", "auto"),
    "pair cut": (lambda f: cut(f / "left_depth_map.tiff"), "no map of points", "keyframe"),
    "no pair": (lambda f: (f / "Right_Image.png").unlink(), "Left_Image.png and Right_Image.png", "keyframe"),
    "pair of two sizes": (
        lambda f: write_rgb(f / "Right_Image.png", np.zeros((64, 64, 3), np.uint8)),
        "another size",
        "keyframe",
    ),
    "depth of another size": (
        lambda f: (f / "left_depth_map.tiff").write_bytes(tiff(np.ones((64, 64, 3)))),
        "another size than the images",
        "keyframe",
    ),
    "one eye unpacked": (
        lambda f: write_rgb(f / "left/000000.png", np.zeros((8, 8, 3), np.uint8)),
        "no image of the other eye",
        "auto",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_missing_or_damaged_is_refused(folder: Path, name: str) -> None:
    spoil, words, part = SPOILED[name]
    spoil(folder)
    assert_refused(lambda: scared.read(folder, ReaderOptions(part=part)), words)


def test_rectified_images_are_not_taken_for_those_of_the_calibration(folder: Path) -> None:
    (folder / "data" / "rgb.mp4").unlink()
    for path in (folder / "Left_Image.png", folder / "Right_Image.png"):
        path.unlink()
    write_rgb(folder / "data" / "left_finalpass" / "000000.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="rectified images are not those"):
        scared.read(folder, ReaderOptions())
