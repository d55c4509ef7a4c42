"""Does `--refine_poses` help where poses are off, and is it harmless where they are right?

See `benchmarks/README.md`. Results: `pose_refinement.md` in `--out`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from benchmarks import setting
from benchmarks.ablation import read_scores, spread
from benchmarks.setting import Example
from utils.artifacts import write_npz
from utils.errors import InputError
from utils.geometry import transform, umeyama, unproject
from utils.scene import Scene, load_poses
from utils.types import FloatArray, Poses

# Of the working distance, and in radians: either moves an image by 1.5 px at a focal length of 300 px.
ERROR = 0.005
# A drift is noise smoothed over so many frames (standard deviation).
DRIFT_FRAMES = 3.0
CASES = ("exact", "each", "drift")
VARIANTS: dict[str, list[str]] = {"as given": [], "refined": ["--refine_poses"]}
COLUMNS = {
    "off_before": ("points off, given (mm)", ".3f"),
    "off_after": ("points off, trained with (mm)", ".3f"),
    "abs_rel": ("abs_rel", ".4f"),
    "psnr_tissue": ("PSNR tissue", ".2f"),
    "psnr_no_highlight": ("PSNR outside highlights", ".2f"),
    "prior_abs_rel": ("prior abs_rel", ".4f"),
}
NOTES = (
    "`exact`: the phantom's true poses. `each`: every training frame turned and shifted at random, 0.005 rad and "
    "0.5 % of the working distance (rms), test frames exact. `drift`: all frames turned and shifted as much, by "
    "errors that change slowly along the sequence. Poses are spoiled before priors are fused. *Points off*: how "
    "far what the corners of training images show at the working distance lies from where it is (rms over both "
    "eyes, after the rigid motion that fits best). Scores: held-out frames, tissue, both eyes, raw depth; mean ± "
    "standard deviation over seeds."
)


@dataclass(frozen=True)
class Run:
    """The scores of one variant with the poses of one case on one phantom."""

    example: Example
    case: str
    variant: str
    scores: Mapping[str, float]


def main(argv: Sequence[str]) -> int:
    """Measure every case with and without refined poses; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--rig", nargs="+", default=["parallel", "verged"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--iters", type=int, help="training steps; default: the product's")
    setting.add_example_flags(parser)
    given, extra = parser.parse_known_args(argv)
    runs: list[Run] = []
    try:
        jobs = list(itertools.product(setting.examples_of(given.rig, given, extra), given.cases, VARIANTS))
        for example, case, variant in tqdm(jobs, desc="poses", unit="run", position=0):
            runs.append(measure(example, case, variant, setting.iterations_flags(given.iters)))
            write_table(given.out, runs, setting.command_line("pose_refinement.py", argv))
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    sys.stdout.write("\n" + (given.out / "pose_refinement.md").read_text())
    return 0


def measure(example: Example, case: str, variant: str, iterations: Sequence[str]) -> Run:
    """Run the stages from `poses` on, priors shared by the variants of a case."""
    upstream = setting.prepare(example)
    dataset, base = Scene.load(upstream / "scene"), setting.LOGS / "pose_refinement" / example.name
    truth_path = example.data / "truth_poses.npz"
    truth, distance = read_truth_poses(truth_path), _working_distance(upstream)
    file = base / f"{case}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    left = spoiled(truth, case, dataset.train, distance, example.seed)
    write_npz(file, names=np.array(truth.names), world_from_left=left, metric=np.array(True))
    shared, experiment = base / case, base / f"{case} {variant}".replace(" ", "_")
    for folder in (shared, experiment):
        setting.forget_where_code_changed(folder, setting.ALL_CODE)
    setting.share_upstream(upstream, shared, ("scene", "matches"))
    poses = ["--poses", "file", "--poses_path", str(file)]
    setting.run_product([*example.flags(shared), *poses], until="prior")
    setting.share_upstream(shared, experiment)
    flags = [*example.flags(experiment), *poses, *iterations, *VARIANTS[variant]]
    root = setting.run_product(flags, start="nerf")
    used = load_poses(root / "poses"), load_poses(root / "poses", root / "nerf")
    before, after = (points_off(dataset, poses, truth, distance) for poses in used)
    return Run(example, case, variant, {"off_before": before, "off_after": after} | read_scores(root))


def read_truth_poses(path: Path) -> Poses:
    """Read the phantom's poses."""
    with np.load(path) as file:
        names = tuple(Path(str(name)).stem for name in file["names"])
        return Poses(names, file["world_from_left"], file["world_from_right"], True)


def _working_distance(upstream: Path) -> float:
    with np.load(next((upstream / "prior").glob("left_*.npz"))) as maps:
        return float(np.nanmedian(maps["depth_mm"]))


def spoiled(truth: Poses, case: str, train: Sequence[str], distance: float, seed: int) -> FloatArray:
    """Return poses (n, 4, 4) of left cameras with the errors of a case."""
    poses = truth.world_from_left.copy()
    if case == "exact":
        return poses
    noise = np.random.default_rng([seed, CASES.index(case)]).standard_normal((len(poses), 2, 3))
    if case == "drift":
        noise = gaussian_filter1d(noise, DRIFT_FRAMES, axis=0, mode="nearest")
    else:
        noise[[name not in train for name in truth.names]] = 0.0
    wrong = np.array([name in train for name in truth.names])
    size = np.sqrt((noise[wrong] ** 2).sum(-1).mean(0))[:, None]
    turns, shifts = np.moveaxis(ERROR * noise / size, 1, 0)
    poses[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix() @ poses[:, :3, :3]
    poses[:, :3, 3] += distance * shifts
    return poses


def points_off(dataset: Scene, poses: Poses, truth: Poses, distance: float) -> float:
    """Return by how many mm (rms) corners of training images are off, at the working distance."""
    places: list[list[FloatArray]] = [[], []]
    for side, name in itertools.product(dataset.sides, dataset.train):
        camera = dataset.rig.camera(side)
        corners = np.array(list(itertools.product((0.0, camera.width - 1.0), (0.0, camera.height - 1.0))))
        points = unproject(camera.matrix, corners, np.full(len(corners), distance))
        for found, source in zip(places, (poses, truth), strict=True):
            found.append(transform(source.world_from(side, name), points))
    ours, true = (np.concatenate(found) for found in places)
    scale, rotation, shift = umeyama(ours, true, with_scale=False)
    return float(np.sqrt(((scale * ours @ rotation.T + shift - true) ** 2).sum(-1).mean()))


def write_table(out: Path, runs: Sequence[Run], command: str) -> None:
    """Write `pose_refinement.md`, a table a rig."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ["# Refined poses", "", f"- `{command}`", f"- {setting.machine()}", f"- {NOTES}", ""]
    for rig in dict.fromkeys(run.example.rig for run in runs):
        example = next(run.example for run in runs if run.example.rig == rig)
        lines += [f"## {rig} rig, {example.frames} stereo frames of {example.width}×{example.height} px", ""]
        rows = [["poses", "field", "seeds", *(title for title, _ in COLUMNS.values())]]
        for case, variant in itertools.product(CASES, VARIANTS):
            mine = [run for run in runs if (run.example.rig, run.case, run.variant) == (rig, case, variant)]
            if mine:
                cells = [
                    spread([run.scores[key] for run in mine], pattern) for key, (_, pattern) in COLUMNS.items()
                ]
                rows.append([case, variant, str(len(mine)), *cells])
        lines += [*setting.markdown_rows(rows), ""]
    (out / "pose_refinement.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
