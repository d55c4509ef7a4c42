"""One experiment: its folder under `logs/`, its log, and which of its stages a command asks for."""

from __future__ import annotations

import logging
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from utils.errors import InputError
from utils.images import list_images
from utils.options import option

FREE_MB = 500
NEEDS_MOTION = ("poses", "nerf", "render", "filter")


@dataclass(frozen=True)
class ExperimentOptions:
    """Where an experiment lies and which of its stages run."""

    expname: str = option("", "name of the experiment: its folder under basedir")
    basedir: str = option("./logs", "folder of all experiments")
    only: str = option("", "run these stages alone, separated by commas")
    start: str = option("", "first stage to run", flag="from")
    until: str = option("", "last stage to run")
    open_page: bool = option(False, "open the report page at the end, where there is a display", flag="open")
    no_reload: bool = option(False, "forget half-finished training instead of going on from its checkpoint")
    wait: bool = option(False, "wait while another process works on this experiment, instead of refusing")
    sweep_task: bool = option(
        False, "said by a sweep to its runs: what has nothing to do in a scene is passed over"
    )


class _ThroughTqdm(logging.Handler):
    """Print log lines without tearing progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(prefix + self.format(record), file=sys.stderr)


def open_experiment(options: ExperimentOptions) -> tuple[Path, logging.Logger]:
    """Make the experiment's folder and its log; return both.

    Raises:
        InputError: no name, a folder that cannot be written, or a disk that is nearly full.
    """
    if not options.expname:
        raise InputError(
            "the experiment has no name", found="no expname", expected="a name", do="give --expname, or --config"
        )
    root = Path(options.basedir) / options.expname
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / "run.log").open("a").close()
    except OSError as error:
        raise InputError(
            f"{root} cannot be written",
            found=str(error),
            expected="a folder that this user may write",
            do="choose another --basedir, or change the folder's rights",
        ) from error
    free = shutil.disk_usage(root).free / 2**20
    if free < FREE_MB:
        raise InputError(
            f"the disk of {root} is nearly full",
            found=f"{free:.0f} MiB free",
            expected=f"{FREE_MB} MiB or more",
            do="free some space, or choose a --basedir on another disk",
        )
    return root, _open_log(root / "run.log")


def say_error(message: str) -> None:
    """Print an error for eyes, and keep it in the experiment's log where there is one already."""
    print(f"\nerror: {message}", file=sys.stderr)
    for handler in logging.getLogger("specula").handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(logging.LogRecord("specula", logging.ERROR, "", 0, message, None, None))


def require_motion(options: ExperimentOptions, images: Path) -> None:
    """Refuse stages that need camera motion where there is one frame and a flag names such a stage."""
    named = [name for name in (*options.only.split(","), options.start, options.until) if name in NEEDS_MOTION]
    if named and not options.sweep_task and len(list_images(images)) == 1:
        raise InputError(
            f"stage `{named[0]}` needs camera motion",
            found=f"a single frame in {images}",
            expected="a sequence; one stereo pair has no poses and no field",
            do="leave the flag out: scene, matches, stereo, prior, export and evaluation run on one pair",
        )


def _open_log(path: Path) -> logging.Logger:
    log = logging.getLogger("specula")
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    to_file = logging.FileHandler(path)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_eyes = _ThroughTqdm()
    to_eyes.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(to_file)
    log.addHandler(to_eyes)
    return log
