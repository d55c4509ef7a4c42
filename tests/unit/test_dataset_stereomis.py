"""StereoMIS's layout, made of a plane: stacked video, ini calibration, masks of the rectified view, poses in m."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.clinical_world import PATH, Seen, assert_refused, brown_rays, look, looks_where, pose, write_video
from utils.datasets import stereomis
from utils.datasets.options import ReaderOptions
from utils.datasets.source import Source
from utils.geometry import directions, invert_rigid, pixel_grid
from utils.images import write_rgb
from utils.types import FloatArray, Side

SIZE = (200, 160)
MATRIX: dict[Side, FloatArray] = {
    "left": np.array([[210.0, 0, 96.5], [0, 209.0, 82.0], [0, 0, 1]]),
    "right": np.array([[211.0, 0, 107.0], [0, 210.5, 80.0], [0, 0, 1]]),
}
TERMS: dict[Side, tuple[float, ...]] = {
    "left": (-0.16, 0.04, 0.001, -0.002, 0.0),
    "right": (-0.15, 0.05, -0.001, 0.001, 0.0),
}
RIGHT_FROM_LEFT = pose((0.4, -1.1, 0.3), (-4.3, 0.05, -0.08))
FRAMES = 4


def write_ini(path: Path) -> None:
    lines = []
    placed_from: dict[Side, FloatArray] = {"left": np.eye(4), "right": RIGHT_FROM_LEFT}
    for side, placed in placed_from.items():
        section, matrix = f"Stereo{side.title()}", MATRIX[side]
        lines += [f"[{section}]", f"res_x = {SIZE[0]}", f"res_y = {SIZE[1]}"]
        lines += [
            f"fc_x = {matrix[0, 0]}",
            f"fc_y = {matrix[1, 1]}",
            f"cc_x = {matrix[0, 2]}",
            f"cc_y = {matrix[1, 2]}",
        ]
        lines += [f"kc_{index} = {term}" for index, term in enumerate((*TERMS[side], 0, 0, 0))]
        lines += [f"R_{index} = {value!r}" for index, value in enumerate(placed[:3, :3].ravel().tolist())]
        lines += [f"T_{index} = {value!r}" for index, value in enumerate(placed[:3, 3].tolist())]
    path.write_text("\n".join(lines) + "\n")


def write_poses(path: Path, places: list[FloatArray]) -> None:
    rows = []
    for index, place in enumerate(places):
        x, y, z, w = Rotation.from_matrix(place[:3, :3]).as_quat()
        rows.append([index, *(place[:3, 3] / 1000), x, y, z, w])
    np.savetxt(path, rows)


def seen(world_from_left: FloatArray) -> tuple[Seen, Seen]:
    world_from_right = world_from_left @ invert_rigid(RIGHT_FROM_LEFT)
    left = look(brown_rays(MATRIX["left"], TERMS["left"], SIZE), world_from_left)
    return left, look(brown_rays(MATRIX["right"], TERMS["right"], SIZE), world_from_right)


def rectification() -> tuple[list[FloatArray], list[FloatArray]]:
    """Rectify as the dataset's authors do: OpenCV, alpha 0."""
    r1, r2, p1, p2, *_ = cv2.stereoRectify(
        MATRIX["left"], np.array(TERMS["left"]), MATRIX["right"], np.array(TERMS["right"]), SIZE,
        RIGHT_FROM_LEFT[:3, :3], RIGHT_FROM_LEFT[:3, 3].reshape(3, 1), alpha=0,
    )  # fmt: skip
    return [np.asarray(r1), np.asarray(r2)], [np.asarray(p1), np.asarray(p2)]


def rectified(world_from_left: FloatArray, size: tuple[int, int] = SIZE) -> tuple[Seen, Seen]:
    """What the rectified pair shows, resized to (width, height) by whole factors."""
    rotations, projections = rectification()
    world_from = [world_from_left, world_from_left @ invert_rigid(RIGHT_FROM_LEFT)]
    scale = size[0] / SIZE[0]
    pixels = (pixel_grid(*size) + 0.5) / scale - 0.5
    views = []
    for turned, projection, place in zip(rotations, projections, world_from, strict=True):
        rays = directions(projection[:, :3], pixels) @ turned  # back into the camera before rectification
        views.append(look(rays, place))
    return views[0], views[1]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """P2_1 as released, small: video, ini, masks at half size on every other number, groundtruth.txt."""
    folder = tmp_path_factory.mktemp("stereomis") / "P2_1"
    (folder / "masks").mkdir(parents=True)
    write_ini(folder / "StereoCalibration.ini")
    write_poses(folder / "groundtruth.txt", PATH)
    pairs = [seen(place) for place in PATH]
    write_video(folder / "IFBS_ENDOSCOPE-part0001.mp4", [(left.image, right.image) for left, right in pairs])
    for position in (0, 2):
        left, _ = rectified(PATH[position], (SIZE[0] // 2, SIZE[1] // 2))
        tissue = np.where(left.tool, 0, 255).astype(np.uint8)
        write_rgb(folder / "masks" / f"{position + 1:06d}l.png", np.repeat(tissue[..., None], 3, axis=-1))
    return folder


@pytest.fixture
def folder(release: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    copy = tmp_path / "P2_1"
    for path in release.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(release)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(release)).write_bytes(path.read_bytes())
    return copy


def said(source: Source, verdict: str) -> str:
    return "\n".join(f"{one.subject}: {one.words} {one.do}" for one in source.findings if one.verdict == verdict)


def test_a_sequence_is_recognised(release: Path, tmp_path: Path) -> None:
    assert stereomis.looks_like(release)
    assert not stereomis.looks_like(tmp_path)


@pytest.mark.parametrize("index", range(FRAMES))
@pytest.mark.parametrize("side", ["left", "right"])
def test_poses_lenses_and_video_show_each_pixel_the_right_place(release: Path, index: int, side: Side) -> None:
    source = stereomis.read(release, ReaderOptions())
    assert not said(source, "refuse")
    found = looks_where(source, index, side)
    assert found.known > 0.99
    assert found.colour <= 1.0
    assert found.colour_99 <= 2.0


def test_frames_are_called_as_the_masks_are_and_chosen_by_position(release: Path) -> None:
    source = stereomis.read(release, ReaderOptions(start=1, every=2))
    assert [frame.name for frame in source.frames] == ["000002", "000004"]
    assert source.world_from_left is not None
    np.testing.assert_allclose(source.world_from_left, [PATH[1], PATH[3]], atol=1e-9)
    assert source.moving_camera
    assert looks_where(source, 1, "left").colour <= 1.0


@pytest.mark.parametrize("index", [0, 2])
def test_masks_of_the_rectified_view_are_carried_to_the_stored_image(release: Path, index: int) -> None:
    source = stereomis.read(release, ReaderOptions())
    tissue = source.frames[index].tissue["left"]()
    left, _ = seen(PATH[index])
    inside = np.zeros(tissue.shape, bool)
    inside[12:-12, 12:-12] = True  # the rectified view lacks the outermost pixels
    assert 0.1 < left.tool[inside].mean() < 0.9
    assert (tissue == ~left.tool)[inside].mean() > 0.98


def test_a_frame_without_mask_takes_that_of_its_neighbour(release: Path) -> None:
    source = stereomis.read(release, ReaderOptions())
    np.testing.assert_array_equal(source.frames[1].tissue["left"](), source.frames[0].tissue["left"]())
    assert "left" in source.frames[3].tissue
    assert "right" not in source.frames[0].tissue


def test_polarity_can_be_turned(release: Path) -> None:
    as_layout = stereomis.read(release, ReaderOptions()).frames[0].tissue["left"]()
    turned = stereomis.read(release, ReaderOptions(mask_polarity="tool")).frames[0].tissue["left"]()
    assert not (as_layout & turned).any()
    assert (as_layout | turned)[20:-20, 20:-20].all()


@pytest.mark.parametrize("size", [SIZE, (SIZE[0] // 2, SIZE[1] // 2)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_frames_that_the_authors_tool_rectified_get_the_rectified_calibration(
    folder: Path, size: tuple[int, int], side: Side
) -> None:
    (folder / "IFBS_ENDOSCOPE-part0001.mp4").unlink()
    for position in range(1, FRAMES):
        for letter, view in zip("lr", rectified(PATH[position], size), strict=True):
            write_rgb(folder / "video_frames" / f"{position + 1:06d}{letter}.png", view.image)
    source = stereomis.read(folder, ReaderOptions())
    assert [frame.name for frame in source.frames] == ["000002", "000003", "000004"]
    assert source.image_size == size
    assert not source.lenses[side].distortion
    found = looks_where(source, 1, side)
    assert found.colour <= 1.0
    assert found.colour_99 <= 2.0
    tissue = source.frames[1].tissue["left"]()  # that of 000003
    assert (tissue == ~rectified(PATH[2], size)[0].tool).mean() > 0.98


def test_unpacked_files_counted_from_0_keep_their_poses(folder: Path) -> None:
    for position, place in enumerate(PATH):
        for letter, view in zip("lr", rectified(place), strict=True):
            write_rgb(folder / "video_frames" / f"{position:06d}{letter}.png", view.image)
    source = stereomis.read(folder, ReaderOptions())
    assert [frame.name for frame in source.frames] == ["000000", "000001", "000002", "000003"]
    assert looks_where(source, 3, "left").colour <= 1.0


def test_a_still_camera_is_recognised_by_its_poses(folder: Path) -> None:
    write_poses(folder / "groundtruth.txt", [PATH[1]] * FRAMES)
    assert stereomis.read(folder, ReaderOptions()).moving_camera is False


def test_without_poses_nothing_is_said_about_motion(folder: Path) -> None:
    (folder / "groundtruth.txt").unlink()
    source = stereomis.read(folder, ReaderOptions())
    assert source.world_from_left is None
    assert source.moving_camera is None


def test_frames_beyond_the_poses_have_none(folder: Path) -> None:
    write_poses(folder / "groundtruth.txt", PATH[:2])
    source = stereomis.read(folder, ReaderOptions())
    assert source.world_from_left is not None
    assert np.isnan(source.world_from_left[2:]).all()
    assert "2 of the chosen frames have none" in said(source, "warn")


def test_a_break_in_the_kinematic_record_is_named(folder: Path) -> None:
    far = PATH[3].copy()
    far[:3, 3] += 40
    write_poses(folder / "groundtruth.txt", [*PATH[:3], far])
    assert "after row 2" in said(stereomis.read(folder, ReaderOptions()), "warn")


def test_frames_outside_the_datasets_own_ranges_are_named(folder: Path) -> None:
    (folder / "test_split.csv").write_text("start,end\n1,2\n")
    words = said(stereomis.read(folder, ReaderOptions()), "warn")
    assert "2 of 4 frames lie outside" in words
    assert "--start 1 --stop 3" in words
    assert "lie outside" not in said(stereomis.read(folder, ReaderOptions(start=1, stop=3)), "warn")


def test_videos_side_by_side_are_told_by_their_shape(folder: Path) -> None:
    (folder / "IFBS_ENDOSCOPE-part0001.mp4").unlink()
    pairs = [(left.image, right.image) for left, right in map(seen, PATH)]
    write_video(folder / "video.mp4", pairs, in_rows=False)
    assert looks_where(stereomis.read(folder, ReaderOptions()), 2, "right").colour <= 1.0


def replace_in(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


INI = "StereoCalibration.ini"
SPOILED = {
    "no ini": (lambda f: (f / INI).unlink(), "FileNotFoundError"),
    "no right eye": (lambda f: replace_in(f / INI, "[StereoRight]", "[Other]"), "StereoRight"),
    "no number": (lambda f: replace_in(f / INI, "fc_x = 210.0", "fc_x = wide"), "wide"),
    "no rotation": (lambda f: replace_in(f / INI, "R_0 = 1.0", "R_0 = 3.0"), "no rotation"),
    "another size": (
        lambda f: replace_in(f / INI, "res_x = 200", "res_x = 300"),
        "calibration is not of these images",
    ),
    "no video": (lambda f: (f / "IFBS_ENDOSCOPE-part0001.mp4").unlink(), "no mp4"),
    "two videos": (lambda f: (f / "b.mp4").write_bytes(b""), "which video"),
    "video of noise": (
        lambda f: (f / "IFBS_ENDOSCOPE-part0001.mp4").write_bytes(b"\0" * 999),
        "cannot be decoded",
    ),
    "poses of seven": (lambda f: (f / "groundtruth.txt").write_text("0 0 0 0 0 0 1\n"), "7 numbers"),
    "poses of words": (lambda f: (f / "groundtruth.txt").write_text("a b\n"), "ValueError"),
    "no quaternion": (lambda f: (f / "groundtruth.txt").write_text("0 0 0 0 0 0 0 2\n"), "quaternions"),
    "mask cut": (lambda f: (f / "masks" / "000001l.png").write_bytes(b"\x89PNG"), "mask"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_missing_or_damaged_is_refused(folder: Path, name: str) -> None:
    spoil, words = SPOILED[name]
    spoil(folder)
    assert_refused(lambda: stereomis.read(folder, ReaderOptions()), words)
