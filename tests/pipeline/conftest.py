"""Tiny datasets and finished runs that several files of tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stereo_prior.calibration import CalibrationFlags, read_calibration
from tests.synthetic import parallel_rig, write_calibration, write_dataset
from tests.tiny import Session, phantom


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom(tmp_path_factory.mktemp("phantom") / "data")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Session:
    """The default pipeline, COLMAP included, run once to its end."""
    session = Session(tmp_path_factory.mktemp("whole"), data, "--train_binocular")
    assert session.run() == 0
    return session


@pytest.fixture(scope="session")
def left_data(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom without its right eye."""
    folder = tmp_path_factory.mktemp("left") / "data"
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("r", "mask_r", "highlight_r"))
    calibration = read_calibration(data, CalibrationFlags(), (112, 96))
    rig = parallel_rig(112, 96).left_only()
    write_calibration(folder / "calib.yaml", rig, changes={"M1": calibration.left.matrix})
    return folder


@pytest.fixture(scope="session")
def good_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a good stereo dataset of three frames; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("good")
    write_dataset(folder, frames=3, ending=".jpg", masks=True)
    return folder


@pytest.fixture
def bad(good_dataset: Path, tmp_path: Path) -> Path:
    """Return a copy of the good dataset to break."""
    shutil.copytree(good_dataset, tmp_path / "data")
    return tmp_path / "data"
