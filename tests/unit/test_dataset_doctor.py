"""The doctor: nothing is refused in right data, and each usual mistake is seen, in numbers or in the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.layouts import write_clip
from tests.synthetic import (
    BALL_ON_WALL,
    Nearest,
    Plane,
    Sphere,
    parallel_rig,
    path,
    render,
    verged_rig,
    world_from,
)
from utils.datasets.check_files import check_frames
from utils.datasets.check_maps import check_masks
from utils.datasets.doctor import examine, line, refusals
from utils.datasets.options import ReaderOptions
from utils.datasets.registry import read_source
from utils.datasets.samples import Sample, decode, spread, take_samples
from utils.datasets.source import Finding, Frame, Lens, Source
from utils.images import read_rgb, write_rgb
from utils.types import FloatArray, Rig, Side

PLAIN = ReaderOptions()
COUNT = 9
BUMPY = Nearest((*BALL_ON_WALL.parts, Plane((0.35, 0.1, 1.0), 92.0), Sphere((-16.0, 9.0, 85.0), 12.0)))


def build(rig: Rig, count: int = COUNT, *, distortion: tuple[float, ...] = ()) -> Source:
    """Return a source whose frames are rendered here, with exact depth, calibration and poses."""
    frames, poses = [], path(count, travel_mm=6.0)
    for number, pose in enumerate(poses):
        views = {
            side: render(BUMPY, rig.camera(side), world_from(rig, side, pose), distortion=distortion)
            for side in rig.sides
        }
        frames.append(
            Frame(
                name=str(number),
                images={side: _give(view.rgb) for side, view in views.items()},
                depth_mm={side: _give(view.depth_mm.astype(np.float32)) for side, view in views.items()},
            )
        )
    return Source(
        kind="made",
        folder=Path("made"),
        frames=tuple(frames),
        image_size=(rig.left.width, rig.left.height),
        lenses={side: Lens(rig.camera(side).matrix, distortion) for side in rig.sides},
        right_from_left=rig.right_from_left,
        world_from_left=poses,
        metric=True,
    )


def _give(values: Any) -> Callable[[], Any]:
    return lambda: values


@pytest.fixture(scope="module")
def right() -> Source:
    return build(parallel_rig(200, 160))


def with_poses(source: Source, change: Callable[[FloatArray], FloatArray]) -> Source:
    assert source.world_from_left is not None
    return replace(source, world_from_left=change(source.world_from_left.copy()))


def with_rig(source: Source, change: Callable[[FloatArray], FloatArray]) -> Source:
    assert source.right_from_left is not None
    return replace(source, right_from_left=change(source.right_from_left.copy()))


def with_frames(source: Source, change: Callable[[int, Frame], Frame]) -> Source:
    return replace(source, frames=tuple(change(index, frame) for index, frame in enumerate(source.frames)))


def with_depth(source: Source, factor: float) -> Source:
    def scaled(_: int, frame: Frame) -> Frame:
        return replace(frame, depth_mm={side: _give(read() * factor) for side, read in frame.depth_mm.items()})

    return with_frames(source, scaled)


def verdicts(source: Source, options: ReaderOptions = PLAIN) -> dict[str, str]:
    """Return the worst verdict by subject."""
    worst: dict[str, str] = {}
    for finding in examine(source, options):
        order = ["ok", "warn", "refuse"]
        known = worst.get(finding.subject, "ok")
        worst[finding.subject] = max(known, finding.verdict, key=order.index)
    return worst


def refused(source: Source, options: ReaderOptions = PLAIN) -> list[str]:
    return [finding.subject for finding in refusals(examine(source, options))]


def test_right_data_has_no_complaint(right: Source) -> None:
    found = verdicts(right)
    assert set(found.values()) == {"ok"}
    assert {"left on right by depth", "matches between the eyes", "frame on frame by depth and poses"} <= set(
        found
    )


def test_distorted_and_verged_eyes_have_no_complaint_either() -> None:
    for source in (
        build(parallel_rig(200, 160), 3, distortion=(-0.2, 0.05, 0.001, -0.001)),
        build(verged_rig(), 3),
    ):
        assert set(verdicts(source).values()) == {"ok"}


def _flip(poses: FloatArray) -> FloatArray:
    poses[:, :, 0] *= -1
    return poses


def _metres(matrices: FloatArray) -> FloatArray:
    matrices[..., :3, 3] /= 1000
    return matrices


def _opengl(poses: FloatArray) -> FloatArray:
    return poses @ np.diag([1.0, -1.0, -1.0, 1.0])


def _transposed(poses: FloatArray) -> FloatArray:
    return np.swapaxes(poses, 1, 2).copy()


def _sheared(poses: FloatArray) -> FloatArray:
    poses[3, 0, 1] += 0.2
    return poses


POSES: dict[str, tuple[Callable[[FloatArray], FloatArray], str]] = {
    "mirrored": (_flip, "handedness"),
    "sheared": (_sheared, "handedness"),
    "transposed": (_transposed, "poses"),
    "in metres": (_metres, "frame on frame by depth and poses"),
    "world-to-camera": (np.linalg.inv, "frame on frame by depth and poses"),
    "OpenGL": (_opengl, "frame on frame by depth and poses"),
    "none known": (lambda poses: poses * np.nan, "poses"),
    "one too few": (lambda poses: poses[1:], "poses"),
}


@pytest.mark.parametrize("what", POSES)
def test_wrong_poses_are_refused(right: Source, what: str) -> None:
    change, subject = POSES[what]
    assert subject in refused(with_poses(right, change))


@pytest.mark.parametrize("what", ["world-to-camera", "OpenGL"])
def test_wrong_poses_are_refused_without_depth_too(right: Source, what: str) -> None:
    plain = with_frames(replace(right, metric=False), lambda _, frame: replace(frame, depth_mm={}))
    assert not refused(plain)
    assert refused(with_poses(plain, POSES[what][0])) == ["matches between frames"]


def test_poses_that_explain_nothing_are_refused_without_depth(right: Source) -> None:
    plain = with_frames(replace(right, metric=False), lambda _, frame: replace(frame, depth_mm={}))
    rolled = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # axes exchanged, determinant 1
    assert "matches between frames" in refused(with_poses(plain, lambda poses: poses @ rolled))


def test_poses_far_from_the_depth_are_refused(right: Source) -> None:
    def kilometres(poses: FloatArray) -> FloatArray:
        poses[:, :3, 3] *= 1000
        return poses

    assert "way of the camera" in refused(with_poses(right, kilometres))
    assert "way of the camera" not in refused(with_poses(replace(right, metric=False), kilometres))


def test_shuffled_poses_and_frames_without_pose_are_told(right: Source) -> None:
    order = np.array([4, 8, 1, 6, 3, 0, 7, 2, 5])
    found = verdicts(with_poses(right, lambda poses: poses[order]))
    assert found["order of poses"] == "warn"
    assert found["frame on frame by depth and poses"] != "ok"

    def lost(poses: FloatArray) -> FloatArray:
        poses[2] = np.nan
        return poses

    assert verdicts(with_poses(right, lost))["poses"] == "warn"


def _swapped(rig: FloatArray) -> FloatArray:
    rig[:3, 3] *= -1
    return rig


def _zero(rig: FloatArray) -> FloatArray:
    rig[:3, 3] = 0
    return rig


def _mirrored(rig: FloatArray) -> FloatArray:
    rig[1, 1] = -1
    return rig


RIGS: dict[str, tuple[Callable[[FloatArray], FloatArray], str]] = {
    "other way round": (_swapped, "matches between the eyes"),
    "in metres": (_metres, "baseline"),
    "zero": (_zero, "baseline"),
    "mirrored": (_mirrored, "rotation between the eyes"),
}


@pytest.mark.parametrize("what", RIGS)
def test_wrong_rigs_are_refused(right: Source, what: str) -> None:
    change, subject = RIGS[what]
    assert subject in refused(with_rig(right, change))


def test_a_baseline_that_is_ten_times_too_long_shows_in_the_pixels(right: Source) -> None:
    def longer(rig: FloatArray) -> FloatArray:
        rig[:3, 3] *= 10
        return rig

    assert "left on right by depth" in refused(with_rig(right, longer))


def test_a_transposed_rotation_is_refused() -> None:
    source = build(verged_rig(), 2)

    def matlab(rig: FloatArray) -> FloatArray:
        rig[:3, :3] = rig[:3, :3].T
        return rig

    assert "optical axes" in refused(with_rig(source, matlab))
    assert "rig" in refused(replace(source, right_from_left=None))


@pytest.mark.parametrize(("factor", "subject"), [(0.001, "unit of depth"), (100.0, "unit of depth")])
def test_depth_in_other_units_is_refused(right: Source, factor: float, subject: str) -> None:
    assert subject in refused(with_depth(right, factor))


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_depth_in_centimetres_shows_in_the_pixels(right: Source, factor: float) -> None:
    assert "left on right by depth" in refused(with_depth(right, factor))


def test_single_frames_of_damaged_depth_are_named(right: Source) -> None:
    def damage(index: int, frame: Frame) -> Frame:
        read = frame.depth_mm["left"]
        return replace(frame, depth_mm={"left": _give(read() * (20 if index == 0 else 1))})

    source = replace(with_frames(right, damage), right_from_left=None, lenses={"left": right.lenses["left"]})
    said = [finding for finding in examine(source, PLAIN) if finding.subject == "depth of single frames"]
    assert said[0].words.endswith("others: 0")


LENSES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "in mm": lambda matrix: matrix * np.array([[0.02], [0.02], [1.0]]),
    "transposed": lambda matrix: matrix.T,
    "of another size": lambda matrix: matrix * np.array([[4.0], [4.0], [1.0]]),
    "not finite": lambda matrix: matrix * np.nan,
}


@pytest.mark.parametrize("what", LENSES)
def test_wrong_lenses_are_refused(right: Source, what: str) -> None:
    lens = Lens(LENSES[what](right.lenses["left"].matrix.copy()))
    assert "left lens" in refused(replace(right, lenses={**right.lenses, "left": lens}))


def test_distortion_that_opencv_does_not_know_is_refused(right: Source) -> None:
    lens = replace(right.lenses["left"], distortion=(0.1, 0.2))
    assert "left lens" in refused(replace(right, lenses={**right.lenses, "left": lens}))


def test_files_that_do_not_fit_are_refused(right: Source) -> None:
    small = np.zeros((80, 100, 3), np.uint8)
    cases: dict[str, Callable[[int, Frame], Frame]] = {
        "size of images": lambda _, frame: replace(frame, images={**frame.images, "left": _give(small)}),
        "size of depth maps": lambda _, frame: replace(frame, depth_mm={"left": _give(small[..., 0] + 1.0)}),
        "size of masks": lambda _, frame: replace(frame, tissue={"left": _give(small[..., 0] == 0)}),
        "right images": lambda index, frame: replace(
            frame, images=frame.images if index else {"left": frame.images["left"]}
        ),
        "names": lambda index, frame: replace(frame, name=str(10 - index)),
    }
    for subject, change in cases.items():
        assert subject in refused(with_frames(right, change))
    assert "names" in refused(with_frames(right, lambda _, frame: replace(frame, name="1")))
    assert "names" in refused(with_frames(right, lambda index, frame: replace(frame, name=f"a/{index}")))
    assert "splits" in refused(replace(right, train=("1", "2"), test=("2",)))
    assert "splits" in refused(replace(right, test=("99",)))
    assert "frames" in refused(replace(right, frames=()))


def masked(source: Source, *, tool_share: float, inverted: bool) -> Source:
    """Return a source with a grey tool over a share of every image, and masks of it."""

    def change(_: int, frame: Frame) -> Frame:
        shown = decode(frame.images["left"]).copy()
        tissue = np.ones(shown.shape[:2], bool)
        tissue[:, : round(tool_share * shown.shape[1])] = False
        shown[~tissue] = 140
        return replace(
            frame, images={"left": _give(shown)}, tissue={"left": _give(tissue ^ inverted)}, depth_mm={}
        )

    one_eye: dict[Side, Lens] = {"left": source.lenses["left"]}
    return replace(with_frames(source, change), right_from_left=None, lenses=one_eye, world_from_left=None)


def test_masks_the_wrong_way_round_are_refused(right: Source) -> None:
    assert verdicts(masked(right, tool_share=0.2, inverted=False))["mask polarity"] == "ok"
    wrong = masked(right, tool_share=0.2, inverted=True)
    assert refused(wrong) == ["mask polarity"]
    said = next(finding for finding in examine(wrong, PLAIN) if finding.subject == "mask polarity")
    assert "--mask_polarity" in said.do
    # who says what nonzero means is only warned
    assert verdicts(wrong, ReaderOptions(mask_polarity="tool"))["mask polarity"] == "warn"
    # little tissue, and right all the same: no refusal
    assert verdicts(masked(right, tool_share=0.7, inverted=False))["mask polarity"] == "warn"


def test_a_dark_border_called_tissue_is_refused() -> None:
    image = np.full((40, 60, 3), (150, 70, 60), np.uint8)
    tissue = np.ones((40, 60), bool)
    tissue[:, :25] = False
    image[~tissue] = 2
    frame = Frame("1", {"left": _give(image)}, {"left": _give(tissue)})
    turned = replace(frame, tissue={"left": _give(~tissue)})
    empty = replace(frame, tissue={"left": _give(np.zeros_like(tissue))})
    assert [found.verdict for found in check_masks([Sample(0, frame)], PLAIN)] == ["ok"]
    assert [found.verdict for found in check_masks([Sample(0, turned)], PLAIN)] == ["refuse"]
    assert [found.verdict for found in check_masks([Sample(0, empty)], PLAIN)] == ["warn", "refuse"]


def test_an_inverted_clip_is_refused_with_the_flag_that_helps(tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    said = examine(read_source(clip, "auto", PLAIN), PLAIN)
    assert not refusals(said)
    assert next(finding for finding in said if finding.subject == "motion").verdict == "warn"
    for mask in (clip / "masks").iterdir():  # StereoMIS clips that others put into this layout look so
        write_rgb(mask, 255 - read_rgb(mask))
    assert refused(read_source(clip, "auto", PLAIN)) == ["mask polarity"]
    options = ReaderOptions(mask_polarity="tissue")
    assert not refused(read_source(clip, "auto", options), options)


def test_frames_without_a_mask_beside_masked_ones_are_named() -> None:
    source = build(parallel_rig(32, 32).left_only(), 3)
    masked = replace(source.frames[1], tissue={"left": lambda: np.ones((32, 32), bool)})
    source = replace(source, frames=(source.frames[0], masked, source.frames[2]))
    (said,) = [finding for finding in check_frames(source) if finding.subject == "left masks"]
    assert (said.verdict, said.words) == ("warn", "2 of 3 frames have none: 0, 2")
    assert not [one for one in check_frames(replace(source, frames=(masked,))) if one.subject == "left masks"]


def test_lines_and_samples() -> None:
    assert line(Finding("ok", "a", "b", "c")) == "[ok] a: b"
    assert line(Finding("warn", "a", "b", "c")) == "[warn] a: b; c"
    assert spread(3, 6) == [0, 1, 2]
    assert spread(100, 3) == [0, 50, 99]
    source = build(parallel_rig(32, 32).left_only(), 3)
    pool = {0: Sample(0, source.frames[0])}
    assert take_samples(source, pool)[0] is pool[0]
    assert sorted(pool) == [0, 1, 2]
    assert [sample.index for sample in take_samples(source, {}, lambda frame: frame.name != "1")] == [0, 2]
