"""Write the embedded example: a synthetic stereo endoscope scene with exact truth.

`python -m utils.phantom FOLDER --rig parallel|verged --seed N --frames N --width W --height H`, and
`--still_camera`, `--breathing MM` for what a static field cannot show
"""

import argparse
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.calibration_file import write_matrices
from utils.errors import InputError
from utils.phantom_mesh import write_truth_mesh
from utils.phantom_motion import LARGEST_LIFT_MM, lifted, make_lift
from utils.phantom_render import Eye, Picture, render
from utils.phantom_rig import Rig, make_exposure, make_path, make_rig
from utils.phantom_surface import Organ, make_organ
from utils.types import FloatArray

DEPTH_PNG_MM = 0.01  # mm per unit of the depth PNGs
JPEG_QUALITY = 95
RECORD = "phantom.json"
VERSION = 1
_LATER = ("phantom_still_camera", "phantom_breathing")  # recorded where used: older examples stay valid
MASKS = ("mask_l", "mask_r", "highlight_l", "highlight_r")


@dataclass(frozen=True)
class PhantomOptions:
    """Options of the embedded example."""

    phantom: str = field(
        default="none", metadata={"help": "make the embedded example as input: none, parallel or verged"}
    )
    phantom_seed: int = field(default=0, metadata={"help": "seed of the example's organ, path and noise"})
    phantom_frames: int = field(default=24, metadata={"help": "stereo frames of the example"})
    phantom_width: int = field(default=320, metadata={"help": "width of the example's images, px"})
    phantom_height: int = field(default=256, metadata={"help": "height of the example's images, px"})
    phantom_still_camera: bool = field(default=False, metadata={"help": "the example's endoscope does not move"})
    phantom_breathing: float = field(
        default=0.0, metadata={"help": "mm by which half of the example's tissue rises and sinks; 0: it is still"}
    )


def ensure_phantom(folder: Path, options: PhantomOptions) -> None:
    """Make the embedded example where the options ask for one and it is not there yet.

    Raises InputError where `folder` holds something else, or an example made with other options.
    """
    if options.phantom == "none" or (folder.is_dir() and _record_of(folder) == _record(options)):
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            f"{folder} is not the example that these options make",
            found=json.dumps(_record_of(folder)) if _record_of(folder) else "files of another origin",
            expected=json.dumps(_record(options)),
            do=f"remove {folder}, choose another --datadir, or leave --phantom out to use what is there",
        )
    make_phantom(folder, options)


def _record(options: PhantomOptions) -> dict[str, Any]:
    values = asdict(options)
    for name in _LATER:
        if values[name] == getattr(PhantomOptions, name):
            del values[name]
    return {"version": VERSION} | values


def _record_of(folder: Path) -> dict[str, Any] | None:
    path = folder / RECORD
    return dict(json.loads(path.read_text())) if path.exists() else None


def make_phantom(folder: Path, options: PhantomOptions) -> None:
    """Write the scene that `options` describe into `folder`, in the data layout, with its truth.

    Raises InputError for impossible options, and where `folder` exists and is not empty.
    The same options give the same files, byte for byte.
    """
    _check(folder, options)
    rig = make_rig(options.phantom, options.phantom_width, options.phantom_height)
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    for name in ("l/images", "r/images", "l/depth", "r/depth", *MASKS):
        (partial / name).mkdir(parents=True)
    organ = make_organ(np.random.default_rng([options.phantom_seed, 1]), rig.organ_scale)
    rng = np.random.default_rng([options.phantom_seed, 2])
    world_from_left = make_path(rig, options.phantom_frames, rng)
    if options.phantom_still_camera:
        world_from_left[:] = world_from_left[0]
    exposure = make_exposure(options.phantom_frames, rng)
    eyes = [_eyes(options, rig, pose) for pose in world_from_left]
    _write_views(partial, options, organ, eyes, exposure)
    if not options.phantom_breathing:  # else the truth is no one surface
        write_truth_mesh(partial / "truth_mesh.ply", organ, [eye for pair in eyes for eye in pair])
    lenses: list[tuple[FloatArray, tuple[float, ...]]] = [(rig.camera_left, ()), (rig.camera_right, ())]
    size = (options.phantom_width, options.phantom_height)
    write_matrices(partial / "calib.yaml", lenses, rig.right_from_left, size)
    names = [str(i + 1) for i in range(options.phantom_frames)]
    np.savez(
        partial / "truth_poses.npz",
        names=np.array(names),
        world_from_left=world_from_left,
        world_from_right=world_from_left @ np.linalg.inv(rig.right_from_left),
        exposure=exposure,
        lamp_left=rig.lamp_left,
    )
    test = held_out(names)
    (partial / "test.txt").write_text("".join(f"{name}.jpg\n" for name in test))
    (partial / "train.txt").write_text("".join(f"{name}.jpg\n" for name in names if name not in test))
    (partial / RECORD).write_text(json.dumps(_record(options)) + "\n")
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)


def _check(folder: Path, options: PhantomOptions) -> None:
    """Raise where `make_phantom` could not do what is asked."""
    sizes = (options.phantom_frames, options.phantom_width, options.phantom_height, options.phantom_seed)
    if not 0 <= options.phantom_breathing <= LARGEST_LIFT_MM:
        raise InputError(
            "the phantom cannot breathe as asked",
            found=f"{options.phantom_breathing:g} mm",
            expected=f"0 to {LARGEST_LIFT_MM:g} mm",
            do="change phantom_breathing",
        )
    if any(size < least for size, least in zip(sizes, (1, 16, 16, 0), strict=True)):
        raise InputError(
            "the phantom cannot be made as asked",
            found=f"{sizes[0]} frames of {sizes[1]} x {sizes[2]} px, seed {sizes[3]}",
            expected="1 frame or more, 16 x 16 px or more, seed 0 or more",
            do="raise phantom_frames, phantom_width, phantom_height or phantom_seed",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"the phantom cannot be written to {folder}",
            found="something there already",
            expected="no such folder, or an empty one",
            do="remove it, or name another folder",
        )


def held_out(names: list[str]) -> list[str]:
    """Return the held-out names: every 8th from the 5th, interior only; the middle one of few."""
    interior = range(1, len(names) - 1)
    chosen = [names[i] for i in range(4, len(names), 8) if i in interior]
    return chosen or [names[len(names) // 2]] * (len(names) >= 3)


def _eyes(options: PhantomOptions, rig: Rig, world_from_left: FloatArray) -> list[Eye]:
    """Return the left and the right eye of one frame."""
    return [
        Eye(
            camera=camera,
            world_from_camera=world_from_left @ left_from_camera,
            lamp_world=world_from_left[:3, :3] @ rig.lamp_left + world_from_left[:3, 3],
            width=options.phantom_width,
            height=options.phantom_height,
            distance_mm=rig.distance_mm,
        )
        for camera, left_from_camera in (
            (rig.camera_left, np.eye(4)),
            (rig.camera_right, np.linalg.inv(rig.right_from_left)),
        )
    ]


def _write_views(
    partial: Path, options: PhantomOptions, organ: Organ, eyes: list[list[Eye]], exposure: FloatArray
) -> None:
    """Render and write both eyes of every frame, one eye a thread."""
    rng = np.random.default_rng([options.phantom_seed, 4])
    lifts_mm, part = make_lift(len(exposure), options.phantom_breathing, rng)

    def view(frame: int, side: int, tissue: Organ) -> None:
        rng = np.random.default_rng([options.phantom_seed, 3, frame, side])
        picture = render(tissue, eyes[frame][side], exposure[frame], rng)
        write_picture(partial, str(frame + 1), "lr"[side], picture)

    with ThreadPoolExecutor(2) as pool:
        for frame in tqdm(range(len(exposure)), desc="phantom", unit="frame"):
            tissue = lifted(organ, float(lifts_mm[frame]), part)
            list(pool.map(view, (frame, frame), (0, 1), (tissue, tissue)))


def write_picture(folder: Path, name: str, side: str, picture: Picture) -> None:
    """Write one eye's image, depth and masks; `side` is l or r."""
    units = np.nan_to_num(picture.depth_mm / DEPTH_PNG_MM)
    units[units > np.iinfo(np.uint16).max] = 0  # beyond 655 mm: unknown
    _imwrite(
        folder / side / "images" / f"{name}.jpg",
        picture.rgb[..., ::-1],
        [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
    )
    _imwrite(folder / side / "depth" / f"{name}.png", np.rint(units).astype(np.uint16))
    _imwrite(folder / f"mask_{side}" / f"{name}.png", 255 * picture.tissue.astype(np.uint8))
    _imwrite(folder / f"highlight_{side}" / f"{name}.png", 255 * picture.highlight.astype(np.uint8))


def _imwrite(path: Path, image: NDArray[np.integer[Any]], parameters: list[int] | None = None) -> None:
    """Write an image, or raise."""
    if not cv2.imwrite(str(path), image, parameters or []):
        raise OSError(f"could not write {path}. Is the disk full?")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write a synthetic stereo endoscope scene with its truth.")
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("--rig", choices=("parallel", "verged"), default="parallel")
    whole: list[tuple[str, Callable[[str], int], int]] = [
        ("seed", int, 0),
        ("frames", int, 24),
        ("width", int, 320),
        ("height", int, 256),
    ]
    for name, kind, default in whole:
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"default {default}")
    parser.add_argument("--still_camera", action="store_true", help="the endoscope does not move")
    parser.add_argument("--breathing", type=float, default=0.0, help="mm by which half of the tissue moves")
    given = parser.parse_args(arguments)
    sizes = (given.seed, given.frames, given.width, given.height)
    make_phantom(given.folder, PhantomOptions(given.rig, *sizes, given.still_camera, given.breathing))


if __name__ == "__main__":
    main()
