"""Files that a crash or a full disk left behind, and files that are no arrays: named, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from monocular.pose_files import check_poses
from nerf.checkpoints import RECORD, WEIGHTS
from nerf.trained import load_model
from tests.camera_runs import FRAMES, make_run
from utils.artifacts import load_maps, read_json, save_maps, write_json
from utils.devices import choose_device
from utils.errors import InputError
from utils.images import read_map
from utils.pose_lists import read_pose_list
from utils.scene import Scene, load_poses


def cut(path: Path) -> Path:
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def refused(read: Callable[[], object], path: Path, do: str) -> InputError:
    with pytest.raises(InputError) as caught:
        read()
    assert caught.value.what == f"{path} cannot be read"
    assert do in caught.value.do
    assert caught.value.found
    return caught.value


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_damaged_maps_and_poses_name_the_stage_that_makes_them(run: Path) -> None:
    poses, maps = run / "poses" / "poses.npz", run / "filter" / "left_1.npz"
    refused(lambda: load_poses(run / "poses"), cut(poses), f"remove the folder {run / 'poses'}, ")
    refused(lambda: load_maps(run / "filter", "left", "1"), cut(maps), f"remove the folder {run / 'filter'}, ")
    maps.write_bytes(b"")
    refused(lambda: load_maps(run / "filter", "left", "1"), maps, "makes that stage again")
    with pytest.raises(FileNotFoundError):
        load_maps(run / "filter", "left", "none")
    with pytest.raises(FileNotFoundError):
        load_poses(run / "none")


def test_poses_without_their_arrays_are_damaged(run: Path) -> None:
    path = run / "poses" / "poses.npz"
    np.savez(path, names=np.array(FRAMES))
    assert "world_from_left" in refused(lambda: load_poses(run / "poses"), path, "poses").found
    np.savez(path, names=np.array(FRAMES), world_from_left=np.eye(4)[None], metric=np.array(True))
    assert "3 names" in refused(lambda: load_poses(run / "poses"), path, "poses").found


@pytest.mark.parametrize("name", ["frames.json", "rig.json"])
@pytest.mark.parametrize("content", ['{"names": [', "{}", "[]", "\xff"])
def test_a_broken_scene_is_named(run: Path, name: str, content: str) -> None:
    path = run / "scene" / name
    path.write_text(content, encoding="latin-1")
    refused(lambda: Scene.load(run / "scene"), path, f"remove the folder {run / 'scene'}, ")


def test_a_damaged_file_outside_a_run_is_to_be_written_again(tmp_path: Path) -> None:
    save_maps(tmp_path, "left", "1", depth_mm=np.ones((4, 4)))
    refused(lambda: load_maps(tmp_path, "left", "1"), cut(tmp_path / "left_1.npz"), "write it again")
    (tmp_path / "record.json").write_text("{")
    refused(lambda: read_json(tmp_path / "record.json"), tmp_path / "record.json", "write it again")


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / RECORD, {})
    write_json(tmp_path / "stamp.json", {})
    save_file({"a": torch.ones(100)}, tmp_path / WEIGHTS)
    path = cut(tmp_path / WEIGHTS)
    refused(lambda: load_model(tmp_path, torch.device("cpu")), path, f"remove the folder {tmp_path}, ")


def test_damaged_files_of_the_user_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "poses.npz"
    np.savez(path, names=np.array(["1"]), world_from_left=np.eye(4)[None])
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK\x03\x04", whole.replace(b"world", b"w\x00rld", 1)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            check_poses(path, ["1"])
        with pytest.raises(InputError, match="cannot be read"):
            read_pose_list(path)


def test_an_npz_that_is_called_npy_is_no_map(tmp_path: Path) -> None:
    path = tmp_path / "1.npy"
    with open(path, "wb") as file:
        np.savez(file, depth=np.ones((2, 2)))
    with pytest.raises(ValueError, match="under the name of an npy file"):
        read_map(path)
    with pytest.raises(ValueError, match="not an npy file"):
        read_map(cut(path))


@pytest.mark.parametrize("name", ["gpu", "mps", "", "cuda:x"])
def test_a_device_that_is_none_is_named(name: str) -> None:
    with pytest.raises(InputError, match="is no device") as caught:
        choose_device(name)
    assert caught.value.expected == "auto, cpu or cuda"
    assert choose_device("cpu") == torch.device("cpu")
