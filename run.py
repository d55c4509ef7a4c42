"""Run Specula: read the options, then bring the stages up to date, one after the other."""

import errno
import sys
from pathlib import Path
from typing import Any

# OpenCV must be loaded before pycolmap: the stages of `stereo_prior` come first (a test watches over it).
from stereo_prior import matches, prior, scene, stereo  # isort: skip
from evaluation import stage as evaluation
from evaluation.tables import format_console_table
from export import cloud
from monocular import poses
from nerf import filtering, rendering, training
from utils.artifacts import read_json
from utils.errors import InputError
from utils.experiment import ExperimentOptions, open_experiment, require_motion, say_error
from utils.options import parse_options
from utils.phantom import PhantomOptions, ensure_phantom
from utils.reference_flags import RETIRED
from utils.stages import Stage, choose, run_stages, skipped

SCORED = ("scene", "matches", "poses", "stereo", "prior", "nerf", "render", "filter", "export")

STAGES = [
    Stage("scene", scene.run, scene.SceneOptions, (), scene.VERSION, scene.files, scene.check),
    Stage("matches", matches.run, matches.MatchOptions, ("scene",), matches.VERSION, check=matches.check),
    Stage("poses", poses.run, poses.PosesOptions, ("scene", "matches"), poses.VERSION, poses.files, poses.check),
    Stage("stereo", stereo.run, stereo.StereoOptions, ("scene", "matches"), stereo.VERSION, check=stereo.check),
    Stage(
        "prior",
        prior.run,
        prior.PriorOptions,
        ("scene", "matches", "poses", "stereo"),
        prior.VERSION,
        check=prior.check,
    ),
    Stage(
        "nerf",
        training.run,
        training.NerfOptions,
        ("scene", "poses", "prior"),
        training.VERSION,
        check=training.check,
        resumable=True,
    ),
    Stage(
        "render", rendering.run, rendering.RenderOptions, ("scene", "poses", "prior", "nerf"), rendering.VERSION
    ),
    Stage("filter", filtering.run, filtering.FilterOptions, ("scene", "render"), filtering.VERSION),
    Stage(
        "export", cloud.run, cloud.ExportOptions, ("scene", "poses", "prior", "render", "filter"), cloud.VERSION
    ),
    Stage(
        "evaluation",
        evaluation.run,
        evaluation.EvaluationOptions,
        SCORED,
        evaluation.VERSION,
        evaluation.files,
        evaluation.check,
    ),
]
SECTIONS = {"experiment": ExperimentOptions, "phantom": PhantomOptions} | {s.name: s.options for s in STAGES}


def run(options: dict[str, Any], notices: list[str]) -> None:
    """Bring the stages that the options choose up to date, and print the table."""
    experiment = options["experiment"]
    root, log = open_experiment(experiment)
    for notice in notices:
        log.info("%s", notice)
    ensure_phantom(Path(options["scene"].datadir), options["phantom"])
    require_motion(experiment, Path(options["scene"].datadir) / "l" / options["scene"].image_dir)
    chosen = choose([stage.name for stage in STAGES], experiment.only, experiment.start, experiment.until)
    run_stages(STAGES, options, root, chosen=chosen, fresh=experiment.no_reload)
    if "evaluation" in chosen and not skipped(root / "evaluation"):
        print("\n" + format_console_table(read_json(root / "evaluation" / "metrics.json")))
        print(f"\ntables: {root / 'evaluation'}   point cloud: {root / 'export' / 'cloud.ply'}")


def main(argv: list[str]) -> int:
    """Return the exit status: 0 done, 2 a mistake in the input, 130 interrupted."""
    try:
        run(*parse_options(SECTIONS, RETIRED, argv))
    except InputError as error:
        say_error(str(error))
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        say_error("the disk is full; finished stages are kept. Free some space, run again")
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: finished stages are kept; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
