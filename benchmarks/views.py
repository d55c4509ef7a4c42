"""What a view's `coverage` and a distance's error bar are worth: errors against the phantom's exact surface.

`python benchmarks/views.py logs/phantom data/phantom` takes a finished run of a phantom, renders a spiral and a
camera that leaves the scene sideways, draws pairs of measured pixels, and writes `views.md` to
`benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils as utils  # isort: skip  # before PyTorch: it says how OpenMP waits

import numpy as np

from benchmarks import setting
from export.measured_run import Measured, MeasuredRun, View
from export.viewer.measuring import length_between
from export.viewer.tape import Tape
from nerf.trajectory import render_trajectory
from nerf.trajectory_request import Request
from utils.artifacts import read_json
from utils.commands import answer
from utils.errors import InputError
from utils.finished_run import require_stages
from utils.geometry import directions, invert_rigid, transform
from utils.images import read_map
from utils.phantom import DEPTH_PNG_MM
from utils.phantom_render import Eye, ray_directions, trace
from utils.phantom_rig import make_rig
from utils.phantom_surface import make_organ
from utils.types import FloatArray

SPIRAL, AWAY, PAIRS = 24, 6, 1000
BINS = ((0, 0), (1, 5), (6, 20), (21, 41), (42, 9999))
NOTES = (
    "Depth of views where no image was taken, against the phantom's surface traced from the same place, by how "
    "many training views have seen the pixel's surface (`coverage`; 0: `extrapolated`). `spiral`: around the mean "
    "view; `away`: a camera that leaves the middle frame sideways and back by up to half the working distance "
    "and turns back. Distances: pairs of random measured pixels of random views, against the distance of the true "
    "points at the same pixels of the true cameras, so that errors of poses count; their error bars as "
    "`python -m export.view` shows them."
)


def measure(run: Path, data: Path) -> str:
    """Measure both and return the text of the table."""
    require_stages(run, "scene", "poses", "prior", "nerf", "render", "filter")
    if not (data / "truth_poses.npz").is_file():
        raise InputError(f"{data} is no phantom", found="no truth_poses.npz", expected="one", do="give its folder")
    rows = [["path", "coverage", "pixels", "median error, %", "mean error, %", "above 2 %"]]
    with tempfile.TemporaryDirectory() as scratch:
        away = Path(scratch) / "away.npz"
        np.savez(away, world_from_camera=leaving(MeasuredRun.load(run)))
        for name, path, frames in (("spiral", "spiral", SPIRAL), ("away", str(away), None)):
            out = Path(scratch) / f"rendered_{name}"
            render_trajectory(run, Request(path, frames=frames, out=out))
            rows += coverage_rows(name, out, run, data)
    errors, sigmas = distances(MeasuredRun.load(run), data)
    share = errors / sigmas
    pairs = [
        ["pairs", "median error, mm", "median error bar, mm", "within 1", "within 2", "within 3"],
        [str(len(errors)), f"{np.median(errors):.3f}", f"{np.median(sigmas):.3f}"]
        + [f"{100 * np.mean(share < times):.1f}%" for times in (1, 2, 3)],
    ]
    head = ["# Views and distances", "", f"- run `{run.name}`, {read_json(data / 'phantom.json')}"]
    head += [f"- {setting.machine()}", "", NOTES, ""]
    return "\n".join([*head, *setting.markdown_rows(rows), "", *setting.markdown_rows(pairs), ""])


def leaving(run: MeasuredRun) -> FloatArray:
    """Return poses (n, 4, 4) that go aside and back from the middle frame, and turn towards where it looked."""
    view = run.views[len(run.views) // 4]
    start, reach = run.world_from(view), 0.5 * float(np.nanmedian(run.measured(view).depth_mm))
    poses = []
    for share in np.linspace(0.0, 1.0, AWAY):
        angle = share * np.arctan2(reach, 2.3 * reach)
        turned = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turned, [share * reach, 0.0, -0.3 * share * reach]
        poses.append(start @ pose)
    return np.stack(poses)


def coverage_rows(name: str, out: Path, run: Path, data: Path) -> Iterator[list[str]]:
    """Yield a row for each bin of coverage."""
    record = read_json(data / "phantom.json")
    rig = make_rig(record["phantom"], record["phantom_width"], record["phantom_height"])
    organ = make_organ(np.random.default_rng([record["phantom_seed"], 1]), rig.organ_scale)
    with np.load(data / "truth_poses.npz") as truth, np.load(run / "poses" / "poses.npz") as poses:
        truth_from_run = truth["world_from_left"][0] @ invert_rigid(poses["world_from_left"][0])
    errors, counts = [], []
    with np.load(out / "cameras.npz") as cameras:
        for number, (pose, matrix) in enumerate(
            zip(cameras["world_from_camera"], cameras["matrix"], strict=True), 1
        ):
            with np.load(out / "maps" / f"{number:04d}.npz") as maps:
                depth_mm, coverage = maps["depth_mm"], maps["coverage"]
            placed = truth_from_run @ pose
            eye = Eye(matrix, placed, placed[:3, 3], depth_mm.shape[1], depth_mm.shape[0], rig.distance_mm)
            error = np.abs(depth_mm / trace(organ, placed[:3, 3], ray_directions(eye, 1), None) - 1)
            errors.append(error[np.isfinite(error)])
            counts.append(coverage[np.isfinite(error)])
    error, count = np.concatenate(errors), np.concatenate(counts)
    for low, high in BINS:
        part = error[(count >= low) & (count <= high)]
        if len(part):
            last = min(high, int(count.max()))
            shown = f"{low}" if low == last else f"{low} to {last}"
            figures = [
                f"{100 * np.median(part):.2f}",
                f"{100 * part.mean():.2f}",
                f"{100 * np.mean(part > 0.02):.1f}%",
            ]
            yield [name, shown, str(len(part)), *figures]


def distances(run: MeasuredRun, data: Path) -> tuple[FloatArray, FloatArray]:
    """Return absolute errors and error bars (n,), mm, of distances between random measured pixels."""
    with np.load(data / "truth_poses.npz") as file:
        truth = {key: file[key] for key in file.files}
    frames = [str(name) for name in truth["names"]]

    @functools.cache
    def maps(view: View) -> tuple[Measured, FloatArray]:
        return run.measured(view), read_map(data / view[0][0] / "depth" / f"{view[1]}.png") * DEPTH_PNG_MM

    rng, tape = np.random.default_rng(0), Tape(run)
    errors, sigmas = [], []
    for _ in range(PAIRS):
        found, exact, covariances = [], [], []
        for view in (run.views[index] for index in rng.integers(len(run.views), size=2)):
            measured, truth_mm = maps(view)
            usable = np.argwhere(np.isfinite(measured.depth_mm) & (truth_mm > 0))
            row, column = usable[rng.integers(len(usable))]
            ray = directions(run.scene.rig.camera(view[0]).matrix, np.array([column, row], float))
            found.append(transform(run.world_from(view), ray * measured.depth_mm[row, column]))
            pose = truth[f"world_from_{view[0]}"][frames.index(view[1])]
            exact.append(transform(pose, ray * truth_mm[row, column]))
            covariances.append(tape.covariance(found[-1]))
        if covariances[0] is not None and covariances[1] is not None:
            length = length_between((found[0], found[1]), (covariances[0], covariances[1]))
            errors.append(abs(length.distance_mm - float(np.linalg.norm(exact[1] - exact[0]))))
            sigmas.append(length.sigma_mm)
    return np.array(errors), np.array(sigmas)


def main(argv: Sequence[str]) -> int:
    """Measure, write and print the table; return the exit status."""
    parser = argparse.ArgumentParser(description="What coverage and error bars are worth, on a run of a phantom.")
    parser.add_argument("run", type=Path, help="a finished run of a phantom")
    parser.add_argument("data", type=Path, help="the phantom")
    parser.add_argument("--out", type=Path, default=setting.RESULTS, help="default benchmarks/results")
    given = parser.parse_args(argv)

    def work() -> str:
        text = measure(given.run, given.data)
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "views.md").write_text(text)
        return text

    return answer(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
