"""Are frames of a real endoscopy that trained nothing located where someone else's reconstruction has them?

See `benchmarks/README.md`. Results: `sinus_localisation.md` in `--out`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from benchmarks import setting
from localisation.locator import Located, Locator
from localisation.reading import Files, Reader
from localisation.verdict import Limits
from nerf.finished_field import FinishedField
from utils.artifacts import read_npz
from utils.errors import InputError
from utils.geometry import rotation_angle_degrees, umeyama
from utils.images import list_images
from utils.types import FloatArray

EVERY = 4  # one frame in so many is held out
HEAD = (
    "frame", "located", "explained", "± place", "off the reference, % of extent", "COLMAP off the reference, %",
    "off COLMAP, %", "off the reference, °", "off COLMAP, °", "s",
)  # fmt: skip
NOTES = (
    "Every fourth frame of a real monocular sinus endoscopy is held out; the rest are trained on. Each held-out "
    "image is located from anywhere. The reference is another group's structure from motion, brought to the run "
    "by a Sim(3) of the training frames' centres; extent is the diagonal of the box around its path. *COLMAP*: "
    "the run's own pose of the same frame, estimated with all images together, held-out ones included: how far "
    "two reconstructions differ anyway; the reference's angles keep what the Sim(3), which looks at centres "
    "alone, leaves. Lengths are arbitrary units (the median depth is 100)."
)


def main(argv: Sequence[str]) -> int:
    """Train, locate the held-out frames, compare, write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("data", type=Path, help="folder of the sequence, with reference_sfm.npz")
    parser.add_argument("--out", type=Path, default=setting.RESULTS, help="folder for tables")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        run = _train(given.data.resolve())
        text = _compare(run, given.data, setting.command_line("sinus_localisation.py", ["SINUS"]))
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    (given.out / "sinus_localisation.md").write_text(text)
    sys.stdout.write("\n" + text)
    return 0


def _train(data: Path) -> Path:
    """Run the product on a copy of the dataset with its own split."""
    folder, run = setting.ROOT / "data" / "benchmarks" / "sinus_located", setting.LOGS / "sinus_located"
    if not (data / "reference_sfm.npz").is_file():
        raise InputError(
            f"{data} is not the sequence", found="no reference_sfm.npz", expected="poses to compare with",
            do="give the folder that has them",
        )  # fmt: skip
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for entry in data.iterdir():
            if entry.suffix != ".txt":
                os.symlink(entry, partial / entry.name)
        names = [path.name for path in list_images(data / "l" / "images")]
        test = names[EVERY // 2 :: EVERY]
        (partial / "test.txt").write_text("".join(f"{name}\n" for name in test))
        (partial / "train.txt").write_text("".join(f"{name}\n" for name in names if name not in test))
        partial.rename(folder)
    setting.forget_where_code_changed(run, setting.ALL_CODE)
    words = ["--basedir", str(run.parent), "--expname", run.name, "--datadir", str(folder)]
    return setting.run_product(words, until="render")


def _compare(run: Path, data: Path, command: str) -> str:
    field = FinishedField.load(run)
    dataset, placed = field.dataset, field.placed
    reference = _reference(data / "reference_sfm.npz", field)
    extent = float(np.linalg.norm(np.ptp(np.array([pose[:3, 3] for pose in reference.values()]), axis=0)))
    locator, reader = Locator(field, Limits(unit=placed.unit)), Reader.of(dataset)
    rows, found = [], []
    for name in tqdm([name for name in dataset.test if name in reference], desc="locate", unit="image"):
        files = Files(name, dataset.image_path("left", name), None, {"left": None, "right": None})
        one = locator.locate(reader.read(files))
        own = placed.world_from("left", name) if placed.placed(name) else np.full((4, 4), np.nan)
        off, off_own, apart = (
            _apart(a, b) for a, b in ((one.world_from_left, reference[name]), (own, reference[name]),
                                      (one.world_from_left, own))
        )  # fmt: skip
        found.append((one, off, off_own, apart))
        rows.append(_row(one, off, off_own, apart, extent))
    return _text(rows, found, extent, command, len(dataset.train))


def _row(
    one: Located,
    off: tuple[float, float],
    off_own: tuple[float, float],
    apart: tuple[float, float],
    extent: float,
) -> tuple[str, ...]:
    std = f"{one.uncertainty.std_mm:.2f}" if one.uncertainty else "–"
    shares = [f"{100 * mm / extent:.2f}" for _, mm in (off, off_own, apart)]
    return (
        one.name, "yes" if one.reason is None else "no", f"{100 * one.agreement.explained:.0f} %", std, *shares,
        f"{off[0]:.2f}", f"{apart[0]:.2f}", f"{one.seconds:.1f}",
    )  # fmt: skip


def _reference(path: Path, field: FinishedField) -> dict[str, FloatArray]:
    """Return the reference's poses (4, 4) by frame, in the run's frame and unit."""
    arrays = read_npz(path)
    poses = dict(zip((Path(str(name)).stem for name in arrays["names"]), arrays["sfm_from_left"], strict=True))
    names = [name for name in field.dataset.train if name in poses and field.placed.placed(name)]
    there = np.array([poses[name][:3, 3] for name in names])
    here = np.array([field.placed.world_from("left", name)[:3, 3] for name in names])
    scale, turn, shift = umeyama(there, here)
    brought: dict[str, FloatArray] = {}
    for name, pose in poses.items():
        moved = np.eye(4)
        moved[:3, :3], moved[:3, 3] = turn @ pose[:3, :3], scale * turn @ pose[:3, 3] + shift
        brought[name] = moved
    return brought


def _apart(world_from_a: FloatArray, world_from_b: FloatArray) -> tuple[float, float]:
    """Return the angle (degrees) and the distance between two poses (4, 4)."""
    angle = rotation_angle_degrees(world_from_a[:3, :3].T @ world_from_b[:3, :3])
    return float(angle), float(np.linalg.norm(world_from_a[:3, 3] - world_from_b[:3, 3]))


def _text(
    rows: Sequence[Sequence[str]],
    found: Sequence[tuple[Located, tuple[float, float], tuple[float, float], tuple[float, float]]],
    extent: float,
    command: str,
    trained: int,
) -> str:
    believed = [entry for entry in found if entry[0].reason is None]
    lines = [f"{len(believed)} of {len(found)} located; {trained} frames trained."]
    for which, entries in (("all", found), ("located", believed)):
        if entries:
            middle = np.median([(off[1], off_own[1], apart[1]) for _, off, off_own, apart in entries], axis=0)
            turns = np.median([(off[0], off_own[0], apart[0]) for _, off, off_own, apart in entries], axis=0)
            shares, degrees = 100 * middle / extent, turns
            lines.append(
                f"Median over {which} frames: {shares[0]:.2f} % and {degrees[0]:.2f}° off the reference, "
                f"{shares[2]:.2f} % and {degrees[2]:.2f}° off COLMAP, which is {shares[1]:.2f} % and "
                f"{degrees[1]:.2f}° off the reference."
            )
    head = ["# Locating real frames", "", f"- `{command}`", f"- {setting.machine()}", "", NOTES, ""]
    return "\n".join([*head, *setting.markdown_rows([HEAD, *rows]), "", *lines, ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
