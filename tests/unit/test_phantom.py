"""The embedded example: repeats exactly, and its truth agrees with its own geometry."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation.mesh_truth import true_depth
from evaluation.surfaces import read_mesh
from utils.errors import InputError
from utils.phantom import PhantomOptions, ensure_phantom, held_out, main, make_phantom
from utils.phantom_rig import make_exposure, make_path, make_rig
from utils.types import Camera, FloatArray

WIDTH, HEIGHT, FRAMES = 96, 80, 5


@pytest.fixture(scope="module", params=["parallel", "verged"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / request.param
    make_phantom(folder, PhantomOptions(request.param, 0, FRAMES, WIDTH, HEIGHT))
    return folder


def read_depth_mm(scene: Path, side: str, name: str) -> FloatArray:
    units = cv2.imread(str(scene / side / "depth" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
    assert units is not None
    assert units.dtype == np.uint16
    return np.where(units > 0, units * 0.01, np.nan)


def read_rgb(scene: Path, side: str, name: str) -> FloatArray:
    bgr = cv2.imread(str(scene / side / "images" / f"{name}.jpg"))
    assert bgr is not None
    return bgr[..., ::-1] / 255


def read_mask(scene: Path, kind: str, name: str) -> np.ndarray:
    mask = cv2.imread(str(scene / kind / f"{name}.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert set(np.unique(mask)) <= {0, 255}
    return mask > 0


def read_calibration(scene: Path) -> dict[str, FloatArray]:
    storage = cv2.FileStorage(str(scene / "calib.yaml"), cv2.FILE_STORAGE_READ)
    keys = ("M1", "D1", "M2", "D2", "R", "T", "image_size")
    return {key: np.asarray(storage.getNode(key).mat(), np.float64) for key in keys}


def unproject(depth_mm: FloatArray, camera: FloatArray, pixels: FloatArray) -> FloatArray:
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(camera).T
    columns, rows = np.rint(pixels).astype(int).T
    return rays * depth_mm[rows, columns][:, None]


def known_pixels(known: np.ndarray) -> FloatArray:
    return np.argwhere(known)[:, ::-1].astype(float)


def test_files_are_those_of_the_data_layout(scene: Path) -> None:
    names = [str(i + 1) for i in range(FRAMES)]
    for folder, ending in {
        "l/images": "jpg",
        "r/images": "jpg",
        "l/depth": "png",
        "r/depth": "png",
        "mask_l": "png",
        "mask_r": "png",
        "highlight_l": "png",
        "highlight_r": "png",
    }.items():
        assert sorted(path.name for path in (scene / folder).iterdir()) == [f"{n}.{ending}" for n in names]
    assert (scene / "test.txt").read_text() == "3.jpg\n"
    assert (scene / "train.txt").read_text() == "1.jpg\n2.jpg\n4.jpg\n5.jpg\n"
    assert not scene.with_name(scene.name + ".partial").exists()


def test_same_options_give_the_same_bytes_and_another_seed_others(scene: Path, tmp_path: Path) -> None:
    # A shorter sequence is the beginning of the longer one.
    make_phantom(tmp_path / "again", PhantomOptions(scene.name, 0, 1, WIDTH, HEIGHT))
    make_phantom(tmp_path / "other", PhantomOptions(scene.name, 1, 1, WIDTH, HEIGHT))
    files = [path.relative_to(scene) for path in scene.rglob("1.*")]
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (scene / file).read_bytes()
    for name in ("l/images/1.jpg", "r/depth/1.png"):
        assert (tmp_path / "other" / name).read_bytes() != (scene / name).read_bytes()
    assert (tmp_path / "again/calib.yaml").read_bytes() == (scene / "calib.yaml").read_bytes()


def test_calibration_is_that_of_the_rig(scene: Path) -> None:
    calibration, rig = read_calibration(scene), make_rig(scene.name, WIDTH, HEIGHT)
    assert calibration["image_size"].ravel().tolist() == [WIDTH, HEIGHT]
    assert calibration["T"].shape == (3, 1)
    assert not calibration["D1"].any()
    assert not calibration["D2"].any()
    np.testing.assert_allclose(calibration["M1"], rig.camera_left, rtol=1e-12)
    np.testing.assert_allclose(calibration["M2"], rig.camera_right, rtol=1e-12)
    np.testing.assert_allclose(calibration["R"], rig.right_from_left[:3, :3], atol=1e-12)
    np.testing.assert_allclose(calibration["T"], rig.right_from_left[:3, 3:], atol=1e-12)
    assert abs(rig.camera_left[0, 2] - rig.camera_right[0, 2]) > 1


@pytest.mark.parametrize(
    ("kind", "baseline_mm", "vergence_deg"),
    [("parallel", (4.0, 5.0), (0.1, 2.0)), ("verged", (280.0, 330.0), (28.0, 40.0))],
)
def test_rigs_have_the_stated_baseline_and_vergence(
    kind: str, baseline_mm: tuple[float, float], vergence_deg: tuple[float, float]
) -> None:
    right_from_left = make_rig(kind, 320, 256).right_from_left
    rotation = right_from_left[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    centre_right_in_left = np.linalg.inv(right_from_left)[:3, 3]
    assert baseline_mm[0] < np.linalg.norm(centre_right_in_left) < baseline_mm[1]
    assert centre_right_in_left[0] > 0  # the right eye is on the right
    vergence = np.degrees(np.arccos(rotation[2, 2]))  # between the optical axes
    assert vergence_deg[0] < vergence < vergence_deg[1]


def test_depth_of_the_left_eye_predicts_depth_of_the_right(scene: Path) -> None:
    calibration = read_calibration(scene)
    for name in ("1", "5"):
        left_mm, right_mm = read_depth_mm(scene, "l", name), read_depth_mm(scene, "r", name)
        points_left = unproject(left_mm, calibration["M1"], known_pixels(np.isfinite(left_mm)))
        points_right = points_left @ calibration["R"].T + calibration["T"].T
        projected = points_right @ calibration["M2"].T
        pixels = (projected[:, :2] / projected[:, 2:]).astype(np.float32)
        seen_mm = cv2.remap(
            right_mm.astype(np.float32), pixels[:, :1], pixels[:, 1:], cv2.INTER_LINEAR, borderValue=np.nan
        ).ravel()
        difference = np.abs(seen_mm / points_right[:, 2] - 1)
        visible = difference < 0.02
        assert visible.mean() > 0.6
        assert np.median(difference[np.isfinite(difference)]) < 0.002
        assert np.mean(difference[visible] < 0.002) > 0.8


def test_points_stay_where_they_are_while_the_endoscope_moves(scene: Path) -> None:
    camera, poses = read_calibration(scene)["M1"], np.load(scene / "truth_poses.npz")
    first_mm, second_mm = (read_depth_mm(scene, "l", name) for name in ("1", "2"))
    points_first = unproject(first_mm, camera, known_pixels(np.isfinite(first_mm)))
    world_from_first, world_from_second = poses["world_from_left"][:2]
    second_from_first = np.linalg.inv(world_from_second) @ world_from_first
    points_second = points_first @ second_from_first[:3, :3].T + second_from_first[:3, 3]
    projected = points_second @ camera.T
    pixels = (projected[:, :2] / projected[:, 2:]).astype(np.float32)
    seen_mm = cv2.remap(
        second_mm.astype(np.float32), pixels[:, :1], pixels[:, 1:], cv2.INTER_LINEAR, borderValue=np.nan
    ).ravel()
    difference = np.abs(seen_mm / points_second[:, 2] - 1)
    assert np.median(difference[np.isfinite(difference)]) < 0.002


def test_poses_are_rigid_and_the_right_eye_follows_the_rig(scene: Path) -> None:
    calibration, poses = read_calibration(scene), np.load(scene / "truth_poses.npz")
    assert poses["names"].tolist() == ["1", "2", "3", "4", "5"]
    left_from_right = np.linalg.inv(np.vstack([np.hstack([calibration["R"], calibration["T"]]), [[0, 0, 0, 1]]]))
    np.testing.assert_allclose(poses["world_from_right"], poses["world_from_left"] @ left_from_right, atol=1e-9)
    for key in ("world_from_left", "world_from_right"):
        assert poses[key].dtype == np.float64
        np.testing.assert_allclose(np.linalg.det(poses[key][:, :3, :3]), 1)
    assert poses["exposure"].shape == (FRAMES,)


def test_the_true_mesh_lies_on_the_true_depth_and_has_hidden_parts(scene: Path) -> None:
    mesh, poses, rig = (
        read_mesh(scene / "truth_mesh.ply"), np.load(scene / "truth_poses.npz"), read_calibration(scene)
    )  # fmt: skip
    assert (scene / "truth_mesh.ply").stat().st_size < 10e6
    for side, eye in (("l", "left"), ("r", "right")):
        matrix = rig["M1" if side == "l" else "M2"]
        camera = Camera(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], WIDTH, HEIGHT)
        for frame in (0, FRAMES - 1):
            drawn_mm, _ = true_depth(mesh, camera, poses[f"world_from_{eye}"][frame])
            depth_mm = read_depth_mm(scene, side, str(frame + 1))
            known = np.isfinite(depth_mm)
            assert np.isfinite(drawn_mm[known]).all()
            filled = np.nan_to_num(depth_mm).astype(np.float32)
            jump = cv2.dilate(filled, np.ones((3, 3))) - cv2.erode(filled, np.ones((3, 3))) > 0.03 * filled
            difference = np.abs(drawn_mm - depth_mm)[known & ~jump]
            assert difference.max() < (0.1 if scene.name == "parallel" else 0.3)
            assert np.median(difference) < 0.01
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert 0.001 < np.mean(normals[:, 2] > 0) < 0.2, "flanks hang over; the rest faces the endoscope"


def test_pictures_are_mostly_well_lit_tissue(scene: Path) -> None:
    for side in "lr":
        for name in ("1", "5"):
            tissue, rgb = read_mask(scene, f"mask_{side}", name), read_rgb(scene, side, name)
            assert 0.85 < tissue.mean() < 0.97
            assert rgb[~tissue].mean() < 0.2
            assert 0.3 < np.median(rgb[tissue].mean(-1)) < 0.6
            assert (rgb[tissue].max(-1) > 0.99).mean() < 0.06
            red, green, blue = np.median(rgb[tissue], axis=0)
            assert red > 1.3 * max(green, blue)
            assert not (np.isfinite(read_depth_mm(scene, side, name)) & ~tissue).any()


def test_highlights_are_few_bright_and_wander_over_the_surface(scene: Path) -> None:
    camera, poses = read_calibration(scene)["M1"], np.load(scene / "truth_poses.npz")
    first, last = (read_mask(scene, "highlight_l", name) for name in ("1", "5"))
    for name, highlight in (("1", first), ("5", last)):
        assert 0.002 < highlight.mean() < 0.08
        brightness = read_rgb(scene, "l", name).mean(-1)
        plain = read_mask(scene, "mask_l", name) & ~highlight
        assert brightness[highlight].mean() > brightness[plain].mean() + 0.1
    # Were they paint, the first frame's would be found in the last one where the surface went.
    points_first = unproject(read_depth_mm(scene, "l", "1"), camera, known_pixels(first))
    last_from_first = np.linalg.inv(poses["world_from_left"][4]) @ poses["world_from_left"][0]
    projected = (points_first @ last_from_first[:3, :3].T + last_from_first[:3, 3]) @ camera.T
    columns, rows = np.rint(projected[:, :2] / projected[:, 2:]).astype(int).T
    inside = (columns >= 0) & (columns < WIDTH) & (rows >= 0) & (rows < HEIGHT)
    near_last = cv2.dilate(last.astype(np.uint8), np.ones((3, 3), np.uint8))
    assert near_last[rows[inside], columns[inside]].mean() < 0.8


@pytest.mark.parametrize("seed", range(5))
def test_exposure_and_path_keep_to_what_is_stated(seed: int) -> None:
    exposure = make_exposure(48, np.random.default_rng(seed))
    assert np.abs(exposure - 1).max() <= 0.15
    assert np.ptp(exposure) > 0.15
    assert np.abs(np.diff(exposure)).max() < 0.06
    path = make_path(make_rig("parallel", 320, 256), 24, np.random.default_rng(seed))
    steps_mm = np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1)
    assert steps_mm.min() > 1.5
    assert steps_mm.max() < 4.5


def test_every_eighth_interior_frame_is_held_out() -> None:
    assert held_out([str(i) for i in range(1, 25)]) == ["5", "13", "21"]
    assert held_out(["a", "b", "c"]) == ["b"]
    assert held_out(["a", "b"]) == []


def test_impossible_options_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="something there already"):
        make_phantom(tmp_path / "full", PhantomOptions("parallel"))
    with pytest.raises(InputError, match="parallel or verged"):
        make_phantom(tmp_path / "new", PhantomOptions("paralel"))
    with pytest.raises(InputError, match="0 frames"):
        main([str(tmp_path / "new"), "--frames", "0"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_half_of_the_tissue_breathes_before_an_endoscope_that_stands(tmp_path: Path) -> None:
    options = ("--frames", "6", "--width", "48", "--height", "40", "--still_camera", "--breathing", "5")
    main([str(tmp_path / "p"), *options])
    poses = np.load(tmp_path / "p" / "truth_poses.npz")["world_from_left"]
    assert (poses == poses[0]).all()
    depth_mm = np.stack([read_depth_mm(tmp_path / "p", "l", str(frame)) for frame in range(1, 7)])
    ways_mm = np.ptp(depth_mm[:, np.isfinite(depth_mm).all(axis=0)], axis=0)
    assert 4.0 < np.median(ways_mm[ways_mm > np.percentile(ways_mm, 90)]) < 9.0  # more on flanks that slide past
    assert 0.1 < (ways_mm < 0.3).mean() < 0.9
    assert not (tmp_path / "p" / "truth_mesh.ply").exists(), "no one surface is the true one"


def test_examples_made_before_breathing_was_known_are_still_valid(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    usual = PhantomOptions("parallel", 0, 1, 32, 32)
    make_phantom(folder, usual)
    assert "phantom_breathing" not in (folder / "phantom.json").read_text()
    ensure_phantom(folder, usual)
    with pytest.raises(InputError, match="is not the example that these options make"):
        ensure_phantom(folder, PhantomOptions("parallel", 0, 1, 32, 32, False, 2.0))
    with pytest.raises(InputError, match="cannot breathe as asked"):
        make_phantom(tmp_path / "other", PhantomOptions("parallel", 0, 1, 32, 32, False, 50.0))
