"""Splits of the protocols: which frames, which runs are refused and in which words, lists written and read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.protocols import splits
from evaluation.protocols.frame_list import chosen_frames, read_lines
from evaluation.protocols.named import SPLITS
from evaluation.protocols.scored_run import Refused
from evaluation.protocols.splits import Split, require, require_held_out, write_split
from stereo_prior.dataset import list_eye, read_splits
from utils.artifacts import write_json
from utils.errors import InputError
from utils.images import write_rgb
from utils.scene import Scene
from utils.types import Camera, Rig

CAMERA = Camera(50.0, 50.0, 9.5, 9.5, 20, 20)
NAMES = tuple(str(number) for number in range(1, 19))  # frames 0 to 17 are called 1 to 18


def scene(train: tuple[str, ...], test: tuple[str, ...]) -> Scene:
    return Scene(Path(), Rig(CAMERA), NAMES, train, test, ("left",), {})


def kept(split: Split) -> Scene:
    """A scene that was run by a split."""
    return scene(split.train, split.scored if split.held_out else ())


def without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name not in names)


def test_which_frames() -> None:
    assert splits.every_eighth(NAMES).scored == ("2", "10", "18")  # i = 1, 9, 17
    assert splits.every_eighth(NAMES).train == without("2", "10", "18")
    assert splits.all_but_first(NAMES).scored == without("1")
    assert splits.all_frames(NAMES).scored == splits.all_frames(NAMES).train == NAMES
    assert splits.odd_frames(NAMES).scored == NAMES[1::2]
    assert splits.odd_frames(NAMES).train == NAMES[::2]
    assert splits.own_split(NAMES).scored == ("1", "9", "17")
    assert splits.own_split(("1",)).train == ("1",)
    assert splits.given_frames(NAMES, ["7", "3"]).scored == ("3", "7")


def test_what_was_trained_on_is_said() -> None:
    for split in (splits.all_but_first(NAMES), splits.all_frames(NAMES)):
        assert not split.held_out
        assert split.words.startswith("trained on what it is scored on")
    for split in (splits.every_eighth(NAMES), splits.odd_frames(NAMES), splits.own_split(NAMES)):
        assert split.held_out
        assert split.words.startswith("held out")


@pytest.mark.parametrize("name", SPLITS)
def test_a_run_by_the_split_satisfies_it(name: str) -> None:
    split = SPLITS[name](NAMES)
    assert require(kept(split), split) == split


def test_a_run_that_held_frames_out_did_not_train_on_all() -> None:
    with pytest.raises(Refused, match="held 3 of 18 out"):
        require(kept(splits.every_eighth(NAMES)), splits.all_but_first(NAMES))
    left_out = scene(without("4"), ())  # trained on all but one, and held nothing out
    with pytest.raises(Refused, match="held 1 of 18 out"):
        require(left_out, splits.all_frames(NAMES))


def test_a_run_on_all_frames_has_no_held_out_ones() -> None:
    with pytest.raises(Refused, match="this run trained on all frames"):
        require(kept(splits.all_frames(NAMES)), splits.every_eighth(NAMES))


def test_other_held_out_frames_are_refused_by_name() -> None:
    with pytest.raises(Refused, match="it holds out 2, 10, 18; this run holds out 1, 9, 17"):
        require(kept(splits.own_split(NAMES)), splits.every_eighth(NAMES))
    with pytest.raises(Refused, match="this run holds out none"):
        require(scene(without("2", "10"), ()), splits.every_eighth(NAMES))


def test_fewer_training_frames_are_refused() -> None:
    split = splits.every_eighth(NAMES)
    with pytest.raises(Refused, match="trains on 13 of those 15"):
        require(scene(split.train[:-2], split.scored), split)


def test_a_single_frame_has_nothing_to_score() -> None:
    one = replace(scene(("1",), ()), names=("1",))
    with pytest.raises(Refused, match="1 frame"):
        require(one, splits.every_eighth(("1",)))


def test_listed_frames_must_be_held_out_and_others_may() -> None:
    split = splits.given_frames(NAMES, ["2", "10"])
    assert require_held_out(kept(splits.every_eighth(NAMES)), split) == split
    with pytest.raises(Refused, match="of its 2 the run did not hold out 1: 3"):
        require_held_out(kept(splits.every_eighth(NAMES)), splits.given_frames(NAMES, ["2", "3"]))


def dataset(root: Path, count: int = 18) -> Path:
    for number in range(1, count + 1):
        write_rgb(root / "l" / "images" / f"{number}.png", np.zeros((4, 4, 3), np.uint8))
    return root


@pytest.mark.parametrize("name", SPLITS)
def test_written_lists_are_read_as_the_split(tmp_path: Path, name: str) -> None:
    said = write_split(dataset(tmp_path), SPLITS[name], "images", overwrite=False)
    split = SPLITS[name](NAMES)
    train, test = read_splits(tmp_path, list_eye(tmp_path, "left", "images"))
    assert train == split.train
    assert test == (split.scored if split.held_out else ()), "nothing that was trained on passes for held out"
    assert split.words in said
    assert require(scene(train, test), split) == split


def test_lists_of_the_user_are_not_lost(tmp_path: Path) -> None:
    dataset(tmp_path)
    (tmp_path / "test.txt").write_text("5\n")
    with pytest.raises(InputError, match="has lists of frames already"):
        write_split(tmp_path, splits.every_eighth, "images", overwrite=False)
    assert (tmp_path / "test.txt").read_text() == "5\n"
    assert not (tmp_path / "train.txt").exists()
    write_split(tmp_path, splits.every_eighth, "images", overwrite=True)
    assert (tmp_path / "test.txt").read_text() == "2\n10\n18\n"


def test_a_folder_without_images_gets_no_lists(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no images"):
        write_split(tmp_path, splits.every_eighth, "images", overwrite=False)
    assert not list(tmp_path.iterdir())


def test_a_name_in_both_lists_is_still_refused(tmp_path: Path) -> None:
    """Training on what is scored is said by an empty test.txt, never by naming a frame twice."""
    dataset(tmp_path)
    (tmp_path / "train.txt").write_text("\n".join(NAMES))
    (tmp_path / "test.txt").write_text("2\n")
    with pytest.raises(InputError, match=r"in train\.txt and in test\.txt"):
        read_splits(tmp_path, list_eye(tmp_path, "left", "images"))


def frame_list(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "frames.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_plain_names_with_or_without_ending(tmp_path: Path) -> None:
    path = frame_list(tmp_path, "10", "", "2.png")
    assert chosen_frames(path, NAMES, tmp_path) == ("2", "10")


def test_lines_of_af_sfm_learner(tmp_path: Path) -> None:
    path = frame_list(tmp_path, "dataset3/keyframe4\t10 l", "dataset3/keyframe4      2\tl")
    assert chosen_frames(path, NAMES, Path("anything")) == ("2", "10")
    padded = tuple(f"{int(name):010d}" for name in NAMES)
    assert chosen_frames(path, padded, Path("anything")) == ("0000000002", "0000000010")


def test_of_several_sequences_the_one_of_the_dataset_counts(tmp_path: Path) -> None:
    path = frame_list(tmp_path, "dataset3/keyframe4 10 l", "dataset6/keyframe4 900 l")
    assert chosen_frames(path, NAMES, tmp_path / "dataset3" / "keyframe4") == ("10",)
    with pytest.raises(InputError, match="several sequences"):
        chosen_frames(path, NAMES, tmp_path / "mine")


def test_lines_count_from_1_and_frames_converted_from_scared_from_0(tmp_path: Path) -> None:
    path = frame_list(tmp_path, "dataset3/keyframe4 10 l", "dataset6/keyframe4 2 l")
    names = tuple(f"{number:06d}" for number in range(12))
    record = {"kind": "scared", "source": "/x/dataset_3/keyframe_4"}
    write_json(tmp_path / "dataset.json", record)
    assert chosen_frames(path, names, tmp_path) == ("000009",)
    write_json(tmp_path / "dataset.json", record | {"kind": "hamlyn"})
    with pytest.raises(InputError, match="several sequences"):
        chosen_frames(path, names, tmp_path)
    assert chosen_frames(path, names, tmp_path / "dataset3" / "keyframe4") == ("000010",)
    write_json(tmp_path / "dataset.json", record)
    assert chosen_frames(frame_list(tmp_path, "000010"), names, tmp_path) == ("000010",), "a name is a name"


def test_frames_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not have") as caught:
        chosen_frames(frame_list(tmp_path, "2", "99"), NAMES, tmp_path)
    assert caught.value.found == "1 of 2: 99"


@pytest.mark.parametrize(
    ("lines", "found"),
    [([""], "no frame"), (["a b c d"], "line 1: a b c d"), (["2", "dataset3/keyframe4 10 r"], "line 2")],
)
def test_strange_lists_are_refused(tmp_path: Path, lines: list[str], found: str) -> None:
    with pytest.raises(InputError, match="is no list of frames") as caught:
        read_lines(frame_list(tmp_path, *lines))
    assert caught.value.found.startswith(found)
    with pytest.raises(InputError, match="is no list of frames"):
        read_lines(tmp_path / "nowhere.txt")
