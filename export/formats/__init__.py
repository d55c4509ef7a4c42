"""Camera files of other programs, one module a format, and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.camera_set import CameraSet
from export.formats import colmap, llff, neus, pose_npz, run_folder, trajectories, transforms, transforms_files
from export.formats.outgoing import Outgoing
from utils.errors import InputError
from utils.images import without_ending
from utils.llff_rows import POSES_BOUNDS


def _as_named(index: int, name: str) -> str:
    """Return where an image goes: into `images`, under its name."""
    del index
    return f"images/{_below(name)}"


def _flat(index: int, name: str) -> str:
    """Return where an image of NeRF-synthetic goes, whose loader adds `.png`."""
    del index
    return f"images/{without_ending(_below(name)).replace('/', '_')}.png"


def _below(name: str) -> str:
    """Return a name that stays inside the folder that it is put into: files may name images above theirs."""
    return "/".join(part for part in Path(name).parts if part not in ("..", "/"))


def _nothing(cameras: CameraSet) -> list[str]:
    """Return what a format that holds every pinhole camera loses."""
    del cameras
    return []


@dataclass(frozen=True)
class Format:
    """A row of the table.

    `recognises` and `read` take a file or folder; `write` takes a folder to fill, or the file where `single`.
    `omits` says what the format never has and the record keeps; `losses` what other programs would misread in
    these cameras; `unseen` what is left to do where no depth says which region the cameras see. `layout` places
    an image by its number and name; with `refers` the file can name images wherever they are. `file` is the
    name by which a target is recognised; `points` says that a cloud goes into it.
    """

    title: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], CameraSet]
    write: Callable[[Outgoing, Path], None]
    omits: str
    losses: Callable[[CameraSet], list[str]] = _nothing
    layout: Callable[[int, str], str] = _as_named
    file: str = ""
    single: bool = False
    refers: bool = False
    points: bool = False
    unseen: str = ""


_NEVER = "unit, depth bounds"
_PATH_ONLY = "calibration, image files, unit, split, depth bounds"
FORMATS: dict[str, Format] = {
    "npz": Format(
        "npz with names and world_from_left, for --poses file",
        pose_npz.recognises,
        pose_npz.read,
        pose_npz.write,
        "calibration, image files, split, depth bounds",
        pose_npz.losses,
        single=True,
    ),
    "nerf-synthetic": Format(
        "NeRF-synthetic, transforms_train.json",
        transforms.is_synthetic,
        transforms.read_synthetic,
        transforms_files.write_synthetic,
        f"image size, {_NEVER}",
        transforms_files.losses,
        _flat,
        "transforms_train.json",
    ),
    "nerfstudio": Format(
        "nerfstudio, transforms.json",
        transforms.is_transforms,
        transforms.read,
        transforms_files.write_nerfstudio,
        _NEVER,
        refers=True,
    ),
    "instant-ngp": Format(
        "instant-ngp, transforms.json",
        transforms.is_transforms,
        transforms.read,
        transforms_files.write_instant_ngp,
        f"split, {_NEVER}",
        refers=True,
        unseen="choose `scale` and `offset` so that the scene lies in the unit cube",
    ),
    "colmap": Format(
        "COLMAP model, binary",
        colmap.recognises,
        colmap.read,
        colmap.write_binary,
        f"split, {_NEVER}",
        points=True,
    ),
    "colmap-text": Format(
        "COLMAP model, text", colmap.recognises, colmap.read, colmap.write_text, f"split, {_NEVER}", points=True
    ),
    "llff": Format(
        "LLFF, poses_bounds.npy",
        llff.recognises,
        llff.read,
        llff.write,
        "image names, unit, split",
        llff.losses,
        llff.layout,
        POSES_BOUNDS,
    ),
    "neus": Format(
        "IDR and NeuS, cameras.npz",
        neus.recognises,
        neus.read,
        neus.write,
        f"image names and size, split, {_NEVER}",
        layout=neus.layout,
        file=neus.CAMERAS,
        unseen="scale_mat is the identity: bring the region of interest into the unit sphere",
    ),
    "tum": Format(
        "TUM trajectory",
        trajectories.is_tum,
        trajectories.read_tum,
        trajectories.write_tum,
        _PATH_ONLY,
        trajectories.losses,
        single=True,
    ),
    "kitti": Format(
        "KITTI poses",
        trajectories.is_kitti,
        trajectories.read_kitti,
        trajectories.write_kitti,
        _PATH_ONLY,
        trajectories.losses,
        single=True,
    ),
}
RUN = "run"
READABLE = (RUN, *FORMATS)


def read_cameras(path: Path, format: str = "") -> CameraSet:
    """Read cameras from a run of Specula or from a file of any known format.

    Poses are returned as they are: a mirrored or skewed one is for the caller to notice.

    Args:
        path: a file or folder.
        format: one of READABLE; an empty string: it is told by the content.

    Raises:
        InputError: no such file, no format that is known, or a file that is broken.
    """
    format = format or detect(path)
    _require(path)
    return run_folder.read_run(path) if format == RUN else FORMATS[format].read(path)


def detect(path: Path) -> str:
    """Return the format of a file or folder. Raises InputError where it is none that is known."""
    _require(path)
    if run_folder.is_run(path):
        return RUN
    found = next((name for name, format in FORMATS.items() if format.recognises(path)), None)
    if found is None:
        titles = "; ".join(format.title for format in FORMATS.values())
        raise InputError(
            f"{path}: no camera format was recognised",
            found=", ".join(sorted(entry.name for entry in path.iterdir())[:6]) if path.is_dir() else path.name,
            expected=f"a run of Specula (logs/<expname>); {titles}",
            do="check the path, or name the format with --from",
        )
    return found


def _require(path: Path) -> None:
    if not path.exists():
        raise InputError(
            f"{path} does not exist",
            found="no such file or folder",
            expected=f"a camera file or a run of Specula: {', '.join(READABLE)}",
            do="check the path",
        )
