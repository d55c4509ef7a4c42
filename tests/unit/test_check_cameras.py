"""The camera checks: every usual mistake is made on purpose, and the right check names the right camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from export.camera_set import CameraSet
from export.cameras.evidence import Evidence, gather, view_keys
from export.cameras.judgement import Measure, blame, measures_for
from export.cameras.report import Report, check
from export.check_cameras import FOLDER, main, place_for, table
from export.formats import read_cameras
from stereo_prior import scene as scene_stage
from stereo_prior.scene import SceneOptions
from tests.synthetic import DEPTH_PNG_MM, parallel_rig, path, verged_rig, world_from, write_dataset
from tests.synthetic import FOLDER as EYE_FOLDER
from utils.artifacts import read_json, save_maps, write_json, write_npz
from utils.images import read_map, read_rgb
from utils.scene import save_poses
from utils.stages import STAMP, read_stamp, run_stages
from utils.types import Camera, FloatArray, Poses, Rig

FRAMES = 6
ONE = 3  # the camera that single mistakes are made on: frame 4 of the left eye
RIGS: dict[str, Callable[[], Rig]] = {"parallel": parallel_rig, "verged": verged_rig}
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
LLFF = np.array([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Rendered:
    """A run with the true poses and depth, its cameras, and what they are held against."""

    run: Path
    cameras: CameraSet
    evidence: Evidence

    def name(self, index: int) -> str:
        return self.cameras.names[index]

    def posed(self, world_from_camera: FloatArray, *, suggest: bool = False) -> Report:
        return check(replace(self.cameras, world_from_camera=world_from_camera), self.evidence, suggest=suggest)

    def with_lenses(self, change: dict[int, Camera], *, calibrated: bool = True) -> Report:
        lenses = tuple(change.get(index, camera) for index, camera in enumerate(self.cameras.cameras))
        evidence = self.evidence
        if not calibrated:
            looks = tuple(replace(one, calibrated=None) if one else None for one in evidence.looks)
            evidence = replace(evidence, looks=looks, rig=None)
        return check(replace(self.cameras, cameras=lenses), evidence)

    @property
    def poses(self) -> FloatArray:
        return self.cameras.world_from_camera


@pytest.fixture(scope="module", params=list(RIGS))
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Return a run of six stereo frames with true poses and depth, as if the pipeline had found them."""
    root = tmp_path_factory.mktemp(request.param)
    rig = write_dataset(root / "data", RIGS[request.param](), frames=FRAMES, depth=True)
    run = root / "logs"
    run_stages([scene_stage.STAGE], {"scene": SceneOptions(datadir=str(root / "data"))}, run, chosen=["scene"])
    names = tuple(str(number + 1) for number in range(FRAMES))
    save_poses(run / "poses", Poses(names, path(FRAMES), world_from(rig, "right", path(FRAMES)), True))
    for side in rig.sides:
        for name in names:
            depth_mm = DEPTH_PNG_MM * read_map(root / "data" / EYE_FOLDER[side] / "depth" / f"{name}.png")
            save_maps(run / "prior", side, name, depth_mm=np.where(depth_mm > 0, depth_mm, np.nan))
    inputs = {"scene": read_stamp(run / "scene")["hash"]}
    for stage in ("poses", "prior"):
        write_json(run / stage / STAMP, {"hash": f"{stage} by hand", "inputs": inputs, "skipped": None})
        inputs = inputs | {stage: f"{stage} by hand"}
    cameras = read_cameras(run)
    return Rendered(run, cameras, gather(cameras, run, None))


def accused(report: Report, *checks: str) -> set[str]:
    """Return the cameras that one of these checks names; that any names, where none is given."""
    return {one.camera for one in report.findings if one.check in checks or not checks}


def one_changed(poses: FloatArray, change: FloatArray) -> FloatArray:
    changed = poses.copy()
    changed[ONE] = changed[ONE] @ change
    return changed


def rolled(degrees: float) -> FloatArray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    roll = np.eye(4)
    roll[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return roll


def test_true_cameras_pass(rendered: Rendered) -> None:
    report = rendered.posed(rendered.poses, suggest=True)
    assert report.findings == []
    assert report.suggestions == []
    assert "no inverse, axis flip or roll lowers" in report.notes[-1]
    verged = "come closest 80 (mm) in front of the left eye"
    assert (verged in report.notes[0]) != ("nearly parallel" in report.notes[0])
    assert np.nanmax(report.judged.values["epipolar_px"]) < 0.4
    assert np.nanmax(report.judged.values["reprojection_px"]) < 0.8
    assert min(report.judged.n_pairs) >= 5


def test_only_the_determinant_sees_a_mirrored_world(rendered: Rendered) -> None:
    report = rendered.posed(np.diag([1.0, 1.0, -1.0, 1.0]) @ rendered.poses, suggest=True)
    assert accused(report, "determinant") == set(rendered.cameras.names)
    assert {one.check for one in report.findings} == {"determinant"}
    assert "the world is mirrored" in report.suggestions[0].words


def test_one_mirrored_camera_is_named(rendered: Rendered) -> None:
    report = rendered.posed(one_changed(rendered.poses, np.diag([-1.0, 1.0, 1.0, 1.0])))
    assert accused(report) == accused(report, "determinant") == {rendered.name(ONE)}


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda poses: poses @ OPENGL, "OpenGL"),
        (lambda poses: poses @ np.linalg.inv(LLFF), "LLFF"),
        (np.linalg.inv, "invert"),
        (lambda poses: np.linalg.inv(poses @ OPENGL), "invert, and OpenGL"),
    ],
    ids=["opengl", "llff", "world-to-camera", "world-to-camera of opengl"],
)
def test_axes_of_all_cameras(rendered: Rendered, mistake: object, words: str) -> None:
    assert callable(mistake)
    report = rendered.posed(mistake(rendered.poses), suggest=True)
    assert accused(report, "warp") == set(rendered.cameras.names)
    assert accused(report, "reprojection") == set(rendered.cameras.names)
    best = report.suggestions[0]
    assert len(report.suggestions) == 1
    assert best.cameras == rendered.cameras.names
    assert best.explains
    assert words in best.words
    assert best.error_changed < 0.5 * best.error_given


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_one_rolled_camera_is_named_and_its_neighbours_are_not(rendered: Rendered, degrees: float) -> None:
    report = rendered.posed(one_changed(rendered.poses, rolled(degrees)), suggest=True)
    name = rendered.name(ONE)
    assert accused(report) == accused(report, "epipolar") == accused(report, "warp") == {name}
    assert [one.cameras for one in report.suggestions] == [(name,)]
    assert f"rolled by {degrees} degrees" in report.suggestions[0].words


def test_a_slight_roll_is_named_and_nothing_is_made_up_for_it(rendered: Rendered) -> None:
    report = rendered.posed(one_changed(rendered.poses, rolled(12)), suggest=True)
    assert accused(report) == accused(report, "epipolar") == {rendered.name(ONE)}
    assert [one.explains for one in report.suggestions] == [False]
    assert "no inverse, axis flip or roll" in report.suggestions[0].words


def test_a_skewed_rotation_and_a_transposed_matrix(rendered: Rendered) -> None:
    skewed = rendered.poses.copy()
    skewed[ONE, :3, :3] *= 1.01
    skewed[ONE + 1] = skewed[ONE + 1].T
    report = rendered.posed(skewed)
    assert accused(report, "orthonormal") == {rendered.name(ONE), rendered.name(ONE + 1)}
    assert any("transposed" in one.words for one in report.findings if one.camera == rendered.name(ONE + 1))


def test_a_matrix_that_cannot_be_inverted_is_named(rendered: Rendered) -> None:
    poses = rendered.poses.copy()
    poses[ONE, :3, :3] = 0
    report = rendered.posed(poses, suggest=True)
    assert accused(report) == accused(report, "determinant") == {rendered.name(ONE)}


def moved_centre(camera: Camera | None, shift_px: float) -> Camera:
    assert camera is not None
    return replace(camera, cx=camera.cx + shift_px, cy=camera.cy + shift_px)


def centre_forced(camera: Camera | None) -> Camera:
    assert camera is not None
    return replace(camera, cx=(camera.width - 1) / 2, cy=(camera.height - 1) / 2)


def test_half_a_pixel_of_all_shows_against_the_calibration_alone(rendered: Rendered) -> None:
    shifted = {index: moved_centre(camera, 0.5) for index, camera in enumerate(rendered.cameras.cameras)}
    assert accused(rendered.with_lenses(shifted), "half_pixel") == set(rendered.cameras.names)
    assert accused(rendered.with_lenses(shifted, calibrated=False)) == set()


def test_half_a_pixel_of_one_camera_shows_in_the_images_too(rendered: Rendered) -> None:
    shifted = {ONE: moved_centre(rendered.cameras.cameras[ONE], 0.5)}
    name = rendered.name(ONE)
    report = rendered.with_lenses(shifted)
    assert accused(report) == accused(report, "half_pixel") == {name}
    seen = rendered.with_lenses(shifted, calibrated=False)
    assert accused(seen) == accused(seen, "shift") == {name}
    assert seen.judged.shift_px[ONE] == pytest.approx([0.5, 0.5], abs=0.2)


def test_centre_forced_principal_points(rendered: Rendered) -> None:
    one = {ONE: centre_forced(rendered.cameras.cameras[ONE])}
    report = rendered.with_lenses(one)
    if rendered.cameras.cameras[ONE] == one[ONE]:  # the verged rig's left eye has its true centre there
        assert report.findings == []
        one = {ONE + FRAMES: centre_forced(rendered.cameras.cameras[ONE + FRAMES])}
        report = rendered.with_lenses(one)
    found = [finding for finding in report.findings if finding.check == "principal_point"]
    assert accused(report) == {rendered.name(next(iter(one)))}
    assert "forced to the centre" in found[0].words


def test_centres_forced_in_both_eyes_show_between_them(rendered: Rendered) -> None:
    forced = {index: centre_forced(camera) for index, camera in enumerate(rendered.cameras.cameras)}
    report = rendered.with_lenses(forced, calibrated=False)
    assert accused(report) == accused(report, "between_eyes", "reprojection") == set(rendered.cameras.names)


def test_a_wrong_focal_length_and_another_shape(rendered: Rendered) -> None:
    camera = rendered.cameras.cameras[ONE]
    assert camera is not None
    report = rendered.with_lenses({ONE: replace(camera, fx=1.02 * camera.fx)})
    assert accused(report, "focal") == {rendered.name(ONE)}
    report = rendered.with_lenses({ONE: replace(camera, height=2 * camera.height)})
    assert accused(report, "size") == {rendered.name(ONE)}
    small = camera.resized(camera.width // 2, camera.height // 2)
    assert accused(rendered.with_lenses({ONE: small})) == set()  # the same lens, for smaller images
    naive = replace(small, cx=camera.cx / 2, cy=camera.cy / 2)
    assert accused(rendered.with_lenses({ONE: naive}), "principal_point") == {rendered.name(ONE)}


def test_metres_and_a_moved_camera(rendered: Rendered) -> None:
    metres = rendered.poses.copy()
    metres[:, :3, 3] /= 1000
    report = rendered.posed(metres, suggest=True)
    assert accused(report, "scale") == set(rendered.cameras.names)
    assert "metres" in report.suggestions[0].words
    moved = rendered.poses.copy()
    moved[ONE, :3, 3] += [3.0, 3.0, 0.0]
    report = rendered.posed(moved)
    assert accused(report) == accused(report, "reprojection") == {rendered.name(ONE)}


def test_axes_of_a_verged_rig_that_meet_behind(rendered: Rendered) -> None:
    rig = rendered.evidence.rig
    assert rig is not None
    assert rig.right_from_left is not None
    transposed = rig.right_from_left.copy()
    transposed[:3, :3] = transposed[:3, :3].T
    wrong = rendered.poses.copy()
    wrong[FRAMES:] = wrong[:FRAMES] @ np.linalg.inv(transposed)
    report = rendered.posed(wrong)
    if rig.vergence_degrees < 3:
        assert accused(report) == set()  # parallel eyes: R is its own transpose
        return
    found = [one for one in report.findings if one.check == "axes"]
    assert {one.camera for one in found} >= set(rendered.cameras.names[FRAMES:])
    assert all(one.value < 0 and "behind" in one.words for one in found)


def test_cameras_without_pose_or_image_are_told_and_the_others_judged(rendered: Rendered) -> None:
    poses = rendered.poses.copy()
    poses[0] = np.nan
    report = rendered.posed(poses, suggest=True)
    assert report.findings == []
    assert any("1 cameras have no pose" in note for note in report.notes)
    left = rendered.cameras.only(range(FRAMES))
    report = check(left, gather(left, None, None))  # images beside the file, no depth
    assert report.findings == []
    assert any("there is no depth" in note for note in report.notes)
    assert np.isnan(report.judged.values["warp"]).all()
    upside_down = replace(left, world_from_camera=left.world_from_camera @ OPENGL)
    assert accused(check(upside_down, gather(left, None, None)), "in_front", "epipolar") == set(left.names)
    nowhere = replace(left, images=())
    assert any("have no image" in note for note in check(nowhere, gather(nowhere, None, None)).notes)


def test_cameras_without_a_pose_do_not_pass(rendered: Rendered) -> None:
    poses = rendered.poses.copy()
    poses[ONE] = np.nan
    assert table(rendered.posed(poses)).endswith(f"{2 * FRAMES - 1} of {2 * FRAMES} cameras pass, 1 has no pose")
    poses[ONE + 1] = np.nan
    poses[0] = poses[0] @ rolled(40.0)
    assert table(rendered.posed(poses)).endswith(f"{2 * FRAMES - 3} of {2 * FRAMES} cameras pass, 2 have no pose")


def test_depth_that_contradicts_its_neighbours(rendered: Rendered) -> None:
    one = rendered.evidence.looks[ONE]
    assert one is not None
    assert one.depth_mm is not None
    looks = list(rendered.evidence.looks)
    looks[ONE] = replace(one, depth_mm=1.1 * one.depth_mm)
    report = check(rendered.cameras, replace(rendered.evidence, looks=tuple(looks)))
    assert accused(report, "depth") == {rendered.name(ONE)}


def test_a_frame_without_its_left_eye(rendered: Rendered) -> None:
    without = rendered.cameras.only([k for k in range(2 * FRAMES) if k != ONE])
    evidence = gather(without, rendered.run, None)
    assert len(evidence.pairs) == len(rendered.evidence.pairs) - rendered_pairs(rendered, ONE)
    assert check(without, evidence).findings == []


def rendered_pairs(rendered: Rendered, index: int) -> int:
    return sum(index in (pair.a, pair.b) for pair in rendered.evidence.pairs)


def test_limits_in_px_grow_with_wide_images() -> None:
    assert measures_for(320)["epipolar_px"].limit == measures_for(640)["epipolar_px"].limit == 1.0
    assert measures_for(1920)["reprojection_px"].limit == pytest.approx(6.0)
    assert measures_for(1920)["warp"] == measures_for(320)["warp"]


def test_blame_finds_the_one_that_spoils_its_neighbours() -> None:
    ends = np.array([(a, b) for a in range(5) for b in range(a + 1, 5) if b - a <= 2])
    limit = Measure("any", 1.0, "{}")
    spoilt = np.where((ends == 2).any(axis=1), 9.0, 0.5)
    wrong, typical = blame(ends, spoilt, limit, 5)
    assert wrong.tolist() == [False, False, True, False, False]
    assert typical.tolist() == [0.5, 0.5, 9.0, 0.5, 0.5]
    everywhere, _ = blame(ends, np.full(len(ends), 9.0), limit, 5)
    assert everywhere.all()
    unknown, nothing = blame(ends, np.full(len(ends), np.nan), limit, 5)
    assert not unknown.any()
    assert np.isnan(nothing).all()


def test_names_of_many_kinds() -> None:
    assert view_keys(("left/1.png", "r/images/2.jpg", "right_3.png", "4")) == [
        ("left", "1"),
        ("right", "2"),
        ("right", "3"),
        ("left", "4"),
    ]
    assert view_keys(("a/1.png", "b/1.png")) == [("left", "a/1"), ("left", "b/1")]


def test_the_command_on_a_run_and_on_a_file(
    rendered: Rendered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(rendered.run)
    assert main([run]) == 0
    printed = capsys.readouterr().out
    assert f"{2 * FRAMES} of {2 * FRAMES} cameras pass\n" in printed
    assert "epipolar: px off the line" in printed
    record = read_json(rendered.run / FOLDER / "cameras.json")
    assert record["findings"] == []
    assert record["cameras"][rendered.name(ONE)]["determinant"] == pytest.approx(1.0)
    assert read_rgb(rendered.run / FOLDER / "cameras.png").std() > 5
    names = np.array([str(number + 1) for number in range(FRAMES)])
    world_from_left = rendered.poses[:FRAMES].copy()
    world_from_left[:, :3, 3] *= 0.001
    write_npz(tmp_path / "inverse.npz", names=names, world_from_left=np.linalg.inv(world_from_left))
    arguments = [str(tmp_path / "inverse.npz"), "--run", run, "--suggest", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "suggestion for all 6 cameras: world-to-camera was read as camera-to-world: invert (" in printed
    assert read_json(tmp_path / "out" / "cameras.json")["suggestions"][0]["explains"]


def test_bad_input_is_refused(rendered: Rendered, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = tmp_path / "poses.npz"
    write_npz(poses, names=np.array(["1"]), world_from_left=np.eye(4)[None])
    elsewhere = tmp_path / "others.npz"
    write_npz(elsewhere, names=np.array(["x"]), world_from_left=np.eye(4)[None])
    images = str(rendered.run.parent / "data")
    unfinished = tmp_path / "unfinished"
    (unfinished / "scene.partial").mkdir(parents=True)
    for arguments, words in (
        ([str(tmp_path / "none.npz")], "does not exist"),
        ([str(poses), "--run", str(tmp_path)], "is no run of Specula"),
        ([str(poses), "--images", str(tmp_path / "none")], "is no folder"),
        ([str(poses), "--images", images], "nobody gives the focal length of left/1"),
        ([str(elsewhere), "--run", str(rendered.run)], "has no image of these cameras"),
        ([str(poses), "--run", str(unfinished)], "is not finished"),
    ):
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "taken").write_text("mine")
    assert main([str(rendered.run), "--out", str(tmp_path / "taken")]) == 2
    assert "taken is no folder\n  found:    a file" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine"


def test_results_never_lie_in_a_stage(rendered: Rendered, tmp_path: Path) -> None:
    assert place_for(rendered.run) == rendered.run / FOLDER
    assert place_for(rendered.run / "poses" / "poses.npz") == rendered.run / FOLDER / "poses"
    assert place_for(tmp_path / "transforms.json") == tmp_path / FOLDER / "transforms"
