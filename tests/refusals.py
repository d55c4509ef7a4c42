"""Run the stage `scene` on a bad dataset as the pipeline does, and return what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stereo_prior import scene as stage
from stereo_prior.scene import SceneOptions
from utils.errors import InputError
from utils.stages import run_stages


def refused(folder: Path, **options: Any) -> InputError:
    """Run the stage as the pipeline does, and return its refusal; nothing half-written may remain."""
    logs = folder.parent / "logs"
    given = {"scene": SceneOptions(datadir=str(folder), **options)}
    stages = [stage.STAGE]
    with pytest.raises(InputError) as caught:
        run_stages(stages, given, logs, chosen=["scene"])
    assert not logs.exists() or not list(logs.iterdir())
    error = caught.value
    assert all((error.what, error.found, error.expected, error.do))
    return error


def refused_early(folder: Path, **options: Any) -> InputError:
    """Return the refusal that comes before any stage starts."""
    with pytest.raises(InputError):
        stage.check(SceneOptions(datadir=str(folder), **options))
    return refused(folder, **options)
