"""An experiment's folder and log: what is refused before anything runs."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import run as program
from tests.synthetic import parallel_rig, write_calibration
from utils.errors import InputError
from utils.experiment import ExperimentOptions, open_experiment, require_motion
from utils.images import write_rgb

Usage = namedtuple("Usage", "total used free")


def refused(options: ExperimentOptions) -> InputError:
    with pytest.raises(InputError) as caught:
        open_experiment(options)
    return caught.value


def single_pair(folder: Path) -> Path:
    for side in "lr":
        write_rgb(folder / side / "images" / "1.png", np.full((16, 16, 3), 90, np.uint8))
    return folder


def test_the_log_goes_on_where_it_was(tmp_path: Path) -> None:
    for word in ("first", "second"):
        root, log = open_experiment(ExperimentOptions(expname="a", basedir=str(tmp_path)))
        log.info("%s run", word)
    lines = (root / "run.log").read_text().splitlines()
    assert root == tmp_path / "a"
    assert [line.split(" INFO ")[1] for line in lines] == ["first run", "second run"]
    assert len(logging.getLogger("specula").handlers) == 2, "handlers of the first run are gone"


def test_a_missing_name_is_asked_for(tmp_path: Path) -> None:
    error = refused(ExperimentOptions(basedir=str(tmp_path)))
    assert error.what == "the experiment has no name"
    assert "--expname" in error.do
    assert list(tmp_path.iterdir()) == []


def test_a_logs_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    error = refused(ExperimentOptions(expname="a", basedir=str(tmp_path / "logs")))
    assert error.what == f"{tmp_path / 'logs' / 'a'} cannot be written"
    assert "--basedir" in error.do


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a" / "run.log").mkdir(parents=True)
    assert "cannot be written" in refused(ExperimentOptions(expname="a", basedir=str(tmp_path))).what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_logs_folder_without_the_right_to_write(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir(mode=0o500)
    error = refused(ExperimentOptions(expname="a", basedir=str(tmp_path / "logs")))
    assert "Permission denied" in error.found


def test_a_refused_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    error = refused(ExperimentOptions(expname="a", basedir=str(tmp_path)))
    assert "Permission denied" in error.found
    assert "rights" in error.do


@pytest.mark.parametrize(("free_mb", "fits"), [(12, False), (499, False), (501, True)])
def test_a_nearly_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mb: int, fits: bool) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40, free_mb * 2**20))
    options = ExperimentOptions(expname="a", basedir=str(tmp_path))
    if fits:
        open_experiment(options)
        return
    error = refused(options)
    assert "nearly full" in error.what
    assert error.found == f"{free_mb} MiB free"
    assert "500 MiB" in error.expected


@pytest.mark.parametrize(
    "options",
    [
        ExperimentOptions(until="nerf"),
        ExperimentOptions(only="nerf"),
        ExperimentOptions(only="stereo,poses"),
        ExperimentOptions(start="render"),
        ExperimentOptions(start="scene", until="filter"),
    ],
)
def test_a_single_pair_sent_to_a_stage_that_needs_motion(tmp_path: Path, options: ExperimentOptions) -> None:
    single_pair(tmp_path)
    with pytest.raises(InputError) as caught:
        require_motion(options, tmp_path / "l" / "images")
    assert "needs camera motion" in caught.value.what
    assert "a single frame" in caught.value.found
    assert "prior, export and evaluation run on one pair" in caught.value.do


def test_a_single_pair_and_a_sequence_that_may_run(tmp_path: Path) -> None:
    single_pair(tmp_path)
    images = tmp_path / "l" / "images"
    require_motion(ExperimentOptions(), images)
    require_motion(ExperimentOptions(until="prior"), images)
    write_rgb(images / "2.png", np.zeros((16, 16, 3), np.uint8))
    require_motion(ExperimentOptions(until="nerf"), images)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--until", "nerf"], "needs camera motion"),
        (["--until", "dinner"], "--until dinner: no such stage"),
        (["--N_iter", "5"], "`N_iters`"),
        (["--N_iters", "0"], "the training cannot run with these numbers"),
        (["--near", "50"], "relative half-widths"),
        (["--ft_path", "nowhere.pt"], "--ft_path nowhere.pt: no trained field there"),
        (["--stereo", "psychic"], "psychic"),
        (["--chunk", "0"], "nothing can be rendered with these numbers"),
        (["--filter_median", "4"], "filter_median 0, 3 or 5"),
        (["--cloud_max_angle", "120"], "cloud_max_angle 120"),
        (["--poses", "file"], "poses_bounds.npy does not exist"),
    ],
)
def test_the_program_refuses_before_any_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    datadir = single_pair(tmp_path / "data")
    write_calibration(datadir / "calib.yaml", parallel_rig(16, 16))
    argv = ["--expname", "a", "--basedir", str(tmp_path / "logs"), "--datadir", str(datadir), *words]
    assert program.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    for word in ("found:", "expected:", "do:"):
        assert word in error
    assert not (tmp_path / "logs" / "a" / "scene").exists()


def test_poses_of_other_images_are_refused_before_any_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datadir = single_pair(tmp_path / "data")
    write_calibration(datadir / "calib.yaml", parallel_rig(16, 16))
    np.save(datadir / "poses_bounds.npy", np.zeros((3, 17)))
    argv = ["--expname", "a", "--basedir", str(tmp_path / "logs"), "--datadir", str(datadir), "--poses", "file"]
    assert program.main(argv) == 2
    assert "(1, 17): one row an image" in capsys.readouterr().err
    assert not (tmp_path / "logs" / "a" / "scene").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EBADF])
def test_a_disk_that_fills_up_on_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "no more", "somewhere/field.json")

    monkeypatch.setattr(program, "run", fail)
    if number != errno.EBADF:
        assert program.main([]) == 2
        error = capsys.readouterr().err
        assert "somewhere/field.json" in error
        assert ("the disk is full" in error) == (number == errno.ENOSPC)
    else:
        with pytest.raises(OSError, match="no more"):
            program.main([])


def test_the_program_without_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 2
    assert "the experiment has no name" in capsys.readouterr().err
