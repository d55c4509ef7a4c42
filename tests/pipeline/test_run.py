"""The whole program on a tiny phantom: what it writes, what it redoes, how it resumes, what it never looks at."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

import run as program
from nerf.trainer import Losses, Trainer
from tests.synthetic import parallel_rig, write_calibration
from utils.artifacts import load_maps, map_path, read_json
from utils.images import write_rgb
from utils.phantom import PhantomOptions, make_phantom
from utils.stages import STAMP, read_stamp
from utils.types import ARBITRARY_UNITS, Side

STAGES = ("scene", "matches", "poses", "stereo", "prior", "nerf", "render", "filter", "export", "evaluation")
TEST_FRAME = "5"  # of six
FAST = """--N_iters 60 --N_rand 512 --planes_finest 64 --resize 320 256 --depth_refine_start 30
    --depth_refine_period 20 --i_print 10 --i_weights 20 --depth_png_mm 0.01 --device cpu""".split()
SIDES: tuple[Side, Side] = ("left", "right")


class Session:
    """A dataset and a logs folder, and the program run on them."""

    def __init__(self, root: Path, datadir: Path, *words: str) -> None:
        self.datadir, self.basedir = datadir, root / "logs"
        self.logs = self.basedir / "tiny"
        self.words = [*FAST, *words]

    def run(self, *words: str) -> int:
        named = ["--expname", "tiny", "--basedir", str(self.basedir), "--datadir", str(self.datadir)]
        return program.main([*named, *self.words, *words])

    def stamps(self) -> dict[str, int]:
        return {name: (self.logs / name / STAMP).stat().st_mtime_ns for name in STAGES}

    def skipped(self) -> dict[str, str]:
        stamps = {name: read_stamp(self.logs / name) for name in STAGES if (self.logs / name / STAMP).exists()}
        return {name: stamp["skipped"] for name, stamp in stamps.items() if stamp["skipped"]}

    def metrics(self) -> Any:
        return read_json(self.logs / "evaluation" / "metrics.json")

    def until_prior(self, root: Path) -> Session:
        """Return a session that starts from a copy of everything before training."""
        other = Session(root, self.datadir)
        other.words = list(self.words)
        for name in STAGES[:5]:
            shutil.copytree(self.logs / name, other.logs / name)
        return other


def phantom(folder: Path, frames: int = 6) -> Path:
    make_phantom(folder, PhantomOptions("parallel", 0, frames, 112, 96))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom(tmp_path_factory.mktemp("phantom") / "data")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Session:
    """The default pipeline, COLMAP included, run once to its end."""
    session = Session(tmp_path_factory.mktemp("whole"), data, "--train_binocular")
    assert session.run() == 0
    return session


@pytest.fixture(scope="module")
def checkpoint(whole: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the run `whole`, as an interruption leaves it."""
    other = whole.until_prior(tmp_path_factory.mktemp("interrupted"))
    with interrupted("advance", before_call=25):
        assert other.run("--until", "nerf") == 130
    return other.logs / "nerf.partial" / "checkpoint.pt"


class interrupted:  # noqa: N801 - reads as a word in a `with` line
    """Raise in the n-th call of a method of the trainer."""

    def __init__(self, method: str, before_call: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.method, self.calls, self.error = method, before_call, error
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        original: Callable[..., Losses] = getattr(Trainer, self.method)

        def counting(trainer: Trainer, *arguments: Any) -> Losses:
            self.calls -= 1
            if self.calls == 0:
                raise self.error
            return original(trainer, *arguments)

        self.patch.setattr(Trainer, self.method, counting)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


def depth_tables(metrics: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for method, splits in metrics["depth"].items():
        for split, sides in splits.items():
            for side, regions in sides.items():
                for region, alignments in regions.items():
                    for alignment, values in alignments.items():
                        yield f"{method} {split} {side} {region} {alignment}", values


@pytest.mark.slow
def test_every_stage_leaves_a_finished_folder(whole: Session) -> None:
    assert whole.skipped() == {}
    assert {path.name for path in whole.logs.iterdir()} == {*STAGES, "run.log"}
    for name in STAGES:
        stamp = read_stamp(whole.logs / name)
        assert stamp["seconds"] > 0
        assert stamp["peak_memory_mb"] < 4096
        assert stamp["summary"]


@pytest.mark.slow
def test_the_files_of_the_layout_are_there(whole: Session) -> None:
    logs = whole.logs
    names = [str(number) for number in range(1, 7)]
    for path in (
        "scene/frames.json",
        "scene/rig.json",
        "poses/poses.npz",
        "poses/points.npz",
        "poses/report.json",
        "prior/alignment.csv",
        "nerf/field.safetensors",
        "nerf/field.json",
        "nerf/train.csv",
        "nerf/refinement2/left_1.npz",
        "render/left.mp4",
        "export/cloud.ply",
        "evaluation/per_frame.csv",
        "evaluation/table.md",
        "evaluation/table.tex",
    ):
        assert (logs / path).exists(), path
    shape = (96, 112)
    keys = {
        "stereo/sgbm": {"depth_mm", "sigma_mm", "confidence"},
        "prior": {"depth_mm", "sigma_mm", "error", "confidence", "tissue", "highlight", "importance"},
        "render": {"rgb", "depth_mm", "depth_median_mm", "depth_std_mm", "opacity"},
        "filter": {"depth_mm"},
    }
    for folder, expected in keys.items():
        assert {path.stem for path in (logs / folder).glob("*.npz")} == {f"{s}_{n}" for s in SIDES for n in names}
        maps = load_maps(logs / folder, "right", TEST_FRAME)
        assert expected <= set(maps)
        assert all(value.shape[:2] == shape for value in maps.values())
        assert maps["depth_mm"].dtype == np.float32
    assert not (logs / "nerf" / "checkpoint.pt").exists()


@pytest.mark.slow
def test_the_metrics_have_the_keys_of_the_design(whole: Session) -> None:
    metrics = whole.metrics()
    assert metrics["metric"] is True
    assert metrics["protocol"] == "default"
    tables = dict(depth_tables(metrics))
    assert set(tables) == {
        f"{method} {split} {side} {region} {alignment}"
        for method in ("prior", "nerf", "filter")
        for split in ("train", "test")
        for side in SIDES
        for region in ("tissue", "full")
        for alignment in ("raw", "median_scaled")
    }
    counts = {"n_valid_px", "n_frames"}
    expected = {"abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3", "coverage"} | counts
    for name, values in tables.items():
        assert set(values) == expected, name
        assert all(math.isfinite(value) for value in values.values())
        assert values["n_frames"] == (5 if "train" in name else 1)
    for split in ("train", "test"):
        for side in SIDES:
            assert set(metrics["rgb"][split][side]) == {"full", "tissue", "tissue_no_highlight"}
            assert {"psnr", "ssim", "n_frames"} <= set(metrics["rgb"][split][side]["tissue"])
    assert metrics["poses"]["n_registered"] == metrics["poses"]["n_frames"] == 6
    assert metrics["poses"]["metric"] is True
    assert set(metrics["runtime_s"]) == set(STAGES)
    assert metrics["peak_memory_mb"] > 0
    assert "null" not in (whole.logs / "evaluation" / "metrics.json").read_text()


@pytest.mark.slow
def test_the_numbers_are_those_of_a_reconstruction(whole: Session) -> None:
    tables = dict(depth_tables(whole.metrics()))
    for side in SIDES:
        for split in ("train", "test"):
            for method in ("prior", "nerf", "filter"):
                values = tables[f"{method} {split} {side} tissue raw"]
                assert values["abs_rel"] < 0.04
                assert values["coverage"] > 0.95
    log = (whole.logs / "run.log").read_text()
    assert all(f"{name}: started" in log for name in STAGES)


@pytest.mark.slow
def test_refinement_changes_the_prior(whole: Session) -> None:
    before = load_maps(whole.logs / "prior", "left", "1")
    after = load_maps(whole.logs / "nerf" / "refinement2", "left", "1")["depth_mm"]
    changed = np.isfinite(after) & (after != before["depth_mm"])
    assert 0.01 < changed[before["tissue"]].mean() < 0.9
    assert not changed[~before["tissue"]].any()


@pytest.mark.slow
def test_the_cloud_is_metric_and_says_so(whole: Session) -> None:
    path = whole.logs / "export" / "cloud.ply"
    assert b"comment unit mm\n" in path.read_bytes()[:2000]
    points = np.asarray(trimesh.load(path).vertices)
    assert 40 < np.median(np.linalg.norm(points, axis=1)) < 130  # the working distance of the endoscope


@pytest.mark.slow
def test_a_second_run_does_nothing_and_an_evaluation_flag_little(whole: Session) -> None:
    before = whole.stamps()
    assert whole.run("--i_print", "7", "--chunk", "5000") == 0
    assert whole.stamps() == before
    assert "nerf: finished before, nothing to do" in (whole.logs / "run.log").read_text()
    assert whole.run("--only", "evaluation", "--disparity_png_px", "0.1") == 0
    assert {name for name, stamp in whole.stamps().items() if stamp != before[name]} == {"evaluation"}


@pytest.mark.slow
def test_a_changed_training_flag_redoes_what_depends_on_it(whole: Session, tmp_path: Path) -> None:
    other = whole.until_prior(tmp_path)
    for name in STAGES[5:]:
        shutil.copytree(whole.logs / name, other.logs / name)
    before = other.stamps()
    assert other.run("--depth_loss_weight", "0.3", "--N_iters", "20") == 0
    changed = {name for name, stamp in other.stamps().items() if stamp != before[name]}
    assert changed == {"nerf", "render", "filter", "export", "evaluation"}
    assert (other.logs / "nerf/field.safetensors").read_bytes() != weights(whole)


def weights(session: Session) -> bytes:
    return (session.logs / "nerf" / "field.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "call", "error"),
    [
        ("advance", 36, KeyboardInterrupt),  # Ctrl-C between two steps
        ("losses", 36, KeyboardInterrupt),  # Ctrl-C within a step
        ("advance", 56, RuntimeError),  # a crash after the second refinement; the last checkpoint is of step 40
    ],
)
def test_interrupted_training_ends_in_the_same_weights(
    whole: Session, tmp_path: Path, method: str, call: int, error: type[BaseException]
) -> None:
    other = whole.until_prior(tmp_path)
    with interrupted(method, call, error):
        if error is KeyboardInterrupt:
            assert other.run("--until", "nerf") == 130
        else:
            with pytest.raises(error):
                other.run("--until", "nerf")
    assert not (other.logs / "nerf").exists()
    assert (other.logs / "nerf.partial" / "checkpoint.pt").exists()
    assert other.run("--until", "nerf", "--i_print", "10") == 0
    assert "resumed at step" in (other.logs / "run.log").read_text()
    assert weights(other) == weights(whole)
    for folder in ("refinement1", "refinement2"):
        for name in ("left_1", "right_6"):
            path = f"nerf/{folder}/{name}.npz"
            assert (other.logs / path).read_bytes() == (whole.logs / path).read_bytes()
    with open(other.logs / "nerf" / "train.csv", newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [10, 20, 30, 40, 50, 60]


@pytest.mark.slow
def test_a_checkpoint_of_another_configuration_is_refused(
    whole: Session, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = whole.until_prior(tmp_path)
    assert other.run("--until", "nerf", "--ft_path", str(checkpoint), "--planes_width", "32") == 2
    error = capsys.readouterr().err
    assert "is a checkpoint of another configuration" in error
    assert "planes_width 48" in error
    assert "planes_width 32" in error
    assert not (other.logs / "nerf").exists()


@pytest.mark.slow
def test_a_checkpoint_of_the_same_configuration_is_a_better_start(
    whole: Session, checkpoint: Path, tmp_path: Path
) -> None:
    psnr = []
    for words in (["--ft_path", str(checkpoint)], []):
        other = whole.until_prior(tmp_path / str(len(words)))
        assert other.run("--until", "nerf", "--N_iters", "10", *words) == 0
        with open(other.logs / "nerf" / "train.csv", newline="") as file:
            psnr.append(float(next(csv.DictReader(file))["psnr_db"]))
    assert psnr[0] > psnr[1] + 0.5


@pytest.mark.slow
def test_a_file_that_is_no_checkpoint_is_refused(
    whole: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights.pt").write_text("not a checkpoint")
    other = whole.until_prior(tmp_path)
    assert other.run("--until", "nerf", "--ft_path", str(tmp_path / "weights.pt")) == 2
    assert "--ft_path" in capsys.readouterr().err


def with_noise(data: Path, folder: Path, sides: str = "lr") -> Path:
    """Copy a dataset, with noise in the place of its test images."""
    shutil.copytree(data, folder)
    rng = np.random.default_rng(7)
    for side in sides:
        image = rng.integers(0, 255, (96, 112, 3), dtype=np.uint8)
        write_rgb(folder / side / "images" / f"{TEST_FRAME}.jpg", image)
    return folder


@pytest.fixture(scope="module")
def clean_and_noisy(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Session, Session]:
    """Two runs with given poses; the test images of the second are noise."""
    root = tmp_path_factory.mktemp("leak")
    words = ["--train_binocular", "--poses", "file", "--poses_path", str(data / "truth_poses.npz")]
    noisy_data = with_noise(data, root / "noisy")
    sessions = Session(root / "a", data, *words), Session(root / "b", noisy_data, *words)
    for session in sessions:
        assert session.run("--until", "export") == 0
    return sessions


def same(clean: Session, noisy: Session, path: str) -> bool:
    return (clean.logs / path).read_bytes() == (noisy.logs / path).read_bytes()


@pytest.mark.slow
def test_the_noise_was_looked_at_where_it_may_be(clean_and_noisy: tuple[Session, Session]) -> None:
    assert not same(*clean_and_noisy, f"matches/{TEST_FRAME}.npz")
    assert not same(*clean_and_noisy, f"stereo/sgbm/left_{TEST_FRAME}.npz")


@pytest.mark.slow
def test_nothing_of_a_test_image_reaches_the_priors_of_training_frames(
    clean_and_noisy: tuple[Session, Session],
) -> None:
    for side in SIDES:
        for name in ("1", "2", "3", "4", "6"):
            assert same(*clean_and_noisy, f"prior/{side}_{name}.npz"), f"{side} {name}"


@pytest.mark.slow
def test_nothing_of_a_test_image_reaches_the_field(clean_and_noisy: tuple[Session, Session]) -> None:
    clean, noisy = clean_and_noisy
    assert weights(clean) == weights(noisy)
    records = [read_json(session.logs / "nerf" / "field.json") for session in clean_and_noisy]
    assert records[0]["exposure"] == records[1]["exposure"]
    assert records[0]["box_from_world"] == records[1]["box_from_world"]
    for side in SIDES:
        assert same(clean, noisy, f"nerf/refinement2/{side}_4.npz")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["render", "filter"])
def test_a_test_view_is_rendered_without_its_own_image(
    clean_and_noisy: tuple[Session, Session], stage: str
) -> None:
    for side in SIDES:
        for name in (TEST_FRAME, "1"):
            assert same(*clean_and_noisy, f"{stage}/{side}_{name}.npz"), f"{side} {name}"
    assert same(*clean_and_noisy, "export/cloud.ply")


def test_a_test_image_does_not_say_what_is_tissue_in_others(data: Path, tmp_path: Path) -> None:
    # without masks the black border is found in the images: in those of training frames alone
    without_masks = tmp_path / "clean"
    shutil.copytree(data, without_masks, ignore=shutil.ignore_patterns("mask_*"))
    sessions = [Session(tmp_path / "a", without_masks), Session(tmp_path / "b", with_noise(without_masks, tmp_path / "n"))]
    for session in sessions:
        assert session.run("--only", "scene") == 0
    masks = [load_maps(session.logs / "scene" / "masks", "left", "1")["tissue"] for session in sessions]
    assert not masks[0].all()
    np.testing.assert_array_equal(masks[0], masks[1])


@pytest.fixture(scope="module")
def left_data(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom without its right eye."""
    folder = tmp_path_factory.mktemp("left") / "data"
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("r", "mask_r", "highlight_r"))
    from stereo_prior.calibration import CalibrationFlags, read_calibration

    calibration = read_calibration(data, CalibrationFlags(), (112, 96))
    rig = parallel_rig(112, 96).left_only()
    write_calibration(folder / "calib.yaml", rig, changes={"M1": calibration.left.matrix})
    return folder


@pytest.mark.slow
def test_a_left_eye_alone_runs_to_the_end(
    left_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--poses", "file", "--poses_path", str(left_data / "truth_poses.npz")]
    session = Session(tmp_path, left_data, *words)
    assert session.run() == 0
    assert set(session.skipped()) == {"matches", "stereo"}
    assert "left images only" in session.skipped()["stereo"]
    metrics = session.metrics()
    assert metrics["metric"] is False
    assert set(metrics["rgb"]["test"]) == {"left"}
    nerf = metrics["depth"]["nerf"]["test"]["left"]["tissue"]
    assert set(nerf) == {"median_scaled"}, "without a scale raw depth is not scored"
    assert nerf["median_scaled"]["abs_rel"] < 0.1
    assert ARBITRARY_UNITS in capsys.readouterr().out
    assert ARBITRARY_UNITS in (session.logs / "evaluation" / "table.md").read_text()
    assert f"comment unit {ARBITRARY_UNITS}".encode() in (session.logs / "export" / "cloud.ply").read_bytes()[:2000]
    assert not map_path(session.logs / "render", "right", "1").exists()


@pytest.mark.slow
def test_sparse_points_that_feed_priors_owe_nothing_to_test_images(left_data: Path, tmp_path: Path) -> None:
    words = ["--poses", "file", "--poses_path", str(left_data / "truth_poses.npz")]
    noisy = with_noise(left_data, tmp_path / "noisy", sides="l")
    sessions = [Session(tmp_path / "a", left_data, *words), Session(tmp_path / "b", noisy, *words)]
    for session in sessions:
        assert session.run("--until", "prior") == 0
    for name in ("1", "2", "3", "4", "6"):
        assert same(sessions[0], sessions[1], f"prior/left_{name}.npz"), name


def test_a_single_pair_runs_where_it_can_and_says_why_not_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(tmp_path, phantom(tmp_path / "pair", frames=1), "--train_binocular")
    assert session.run() == 0
    assert set(session.skipped()) == {"poses", "nerf", "render", "filter"}
    for name, why in session.skipped().items():
        assert "no motion" in why, name
    metrics = session.metrics()
    assert set(metrics["depth"]) == {"prior"}
    assert metrics["depth"]["prior"]["train"]["left"]["tissue"]["raw"]["abs_rel"] < 0.05
    assert "rgb" not in metrics
    assert "poses" not in metrics
    assert len(trimesh.load(session.logs / "export" / "cloud.ply").vertices) > 1000
    assert "stage nerf was skipped" in capsys.readouterr().out
    assert session.run("--until", "nerf") == 2
    assert "needs camera motion" in capsys.readouterr().err


def test_a_single_left_image_says_that_nothing_can_be_done(left_data: Path, tmp_path: Path) -> None:
    alone = tmp_path / "one"
    shutil.copytree(left_data, alone)
    for path in (*alone.glob("l/*/*"), *alone.glob("*_l/*")):
        if path.stem != "1":
            path.unlink()
    for name in ("train.txt", "test.txt"):
        (alone / name).unlink()
    session = Session(tmp_path, alone)
    assert session.run() == 0
    assert set(session.skipped()) == {"matches", "poses", "stereo", "prior", "nerf", "render", "filter", "export"}
