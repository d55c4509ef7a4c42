"""Run Specula: read the options, then bring the stages up to date, one after the other."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# OpenCV must be loaded before pycolmap: the stages of `stereo_prior` come first (a test watches over it).
from stereo_prior import matches, prior, scene, stereo  # isort: skip
from evaluation import stage as evaluation
from evaluation.report.page import PAGE
from evaluation.tables import format_console_table
from export import stage as export
from monocular import depth, poses
from nerf import filtering, rendering, training, warm_up
from sweeps.options import SweepOptions, asked
from sweeps.scenes import Pipeline
from sweeps.sweep import run_sweep
from utils.artifacts import read_json
from utils.browser import show_page
from utils.datasets.on_the_fly import DatasetOptions, dataset_flags, use_dataset
from utils.errors import InputError, disk_trouble
from utils.experiment import ExperimentOptions, open_experiment, require_motion, say_error
from utils.folder_lock import only_one
from utils.options import flags_of, parse_options
from utils.phantom import PhantomOptions, ensure_phantom
from utils.reference_flags import RETIRED
from utils.stages import choose, run_stages, skipped

_MODULES = (scene, matches, poses, stereo, depth, prior, training, rendering, filtering, export, evaluation)
STAGES = [module.STAGE for module in _MODULES]
SECTIONS = {"experiment": ExperimentOptions, "phantom": PhantomOptions, "dataset": DatasetOptions}
SECTIONS |= {"sweep": SweepOptions} | {stage.name: stage.options for stage in STAGES}


def run(options: dict[str, Any], notices: list[str]) -> None:
    """Bring the stages that the options choose up to date, and print the table."""
    experiment = options["experiment"]
    root, log = open_experiment(experiment)
    with only_one(root, wait=experiment.wait or experiment.sweep_task):
        for notice in notices:
            log.info("%s", notice)
        ensure_phantom(Path(options["scene"].datadir), options["phantom"])
        options = use_dataset(options, root)
        require_motion(experiment, Path(options["scene"].datadir) / "l" / options["scene"].image_dir)
        chosen = choose([stage.name for stage in STAGES], experiment.only, experiment.start, experiment.until)
        if "nerf" in chosen:
            warm_up.start(options["nerf"])
        run_stages(STAGES, options, root, chosen=chosen, fresh=experiment.no_reload)
    if "evaluation" in chosen and not skipped(root / "evaluation"):
        print("\n" + format_console_table(read_json(root / "evaluation" / "metrics.json")))
        print(f"\nreport: {root / 'evaluation' / PAGE}   cloud and mesh: {root / 'export'}")
    if experiment.open_page:
        print(show_page(root / "evaluation" / PAGE))


def prepare(options: Mapping[str, Any]) -> list[str]:
    """Make the input of a sweep's scene where the program makes it itself; return the flags that name it then."""
    ensure_phantom(Path(options["scene"].datadir), options["phantom"])
    return dataset_flags(options)


def pipeline() -> Pipeline:
    """Return what a sweep has to know about this program."""
    flags = [flag for section in SECTIONS.values() for flag in flags_of(section)]
    fixed, here = [*flags_of(PhantomOptions), *flags_of(DatasetOptions)], Path(__file__).resolve()
    return Pipeline(STAGES, lambda words: parse_options(SECTIONS, RETIRED, words)[0], flags, fixed, prepare, here)


def main(argv: list[str]) -> int:
    """Return the exit status: 0 done, 1 a run of a sweep failed, 2 wrong input or a full disk, 130 interrupted."""
    try:
        options, notices = parse_options(SECTIONS, RETIRED, argv)
        if asked(options["sweep"]):
            return run_sweep(argv, options["sweep"], pipeline())
        run(options, notices)
    except InputError as error:
        say_error(str(error))
        return 2
    except OSError as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        say_error(str(trouble))
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: finished stages are kept; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
