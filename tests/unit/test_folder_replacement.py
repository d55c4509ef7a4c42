"""A finished folder takes the place of an earlier one; whatever happens, one of them is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.artifacts import replace_folder


def folder(path: Path, word: str) -> Path:
    path.mkdir()
    (path / "word.txt").write_text(word)
    return path


def test_the_new_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "place"
    replace_folder(folder(tmp_path / "first", "first"), place)
    folder(tmp_path / "place.old", "left by a crash")
    replace_folder(folder(tmp_path / "second", "second"), place)
    assert (place / "word.txt").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_what_a_crash_between_the_moves_left_goes_with_the_next_result(tmp_path: Path) -> None:
    folder(tmp_path / "aside", "old")
    replace_folder(folder(tmp_path / "new", "new"), tmp_path / "place", tmp_path / "aside")
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_old_folder_comes_back_where_the_new_one_cannot_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    place, partial = folder(tmp_path / "place", "old"), folder(tmp_path / "place.partial", "new")
    move = Path.rename

    def fails(source: Path, target: Path) -> Path:
        if source == partial:
            raise error
        return move(source, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(error):
        replace_folder(partial, place)
    assert (place / "word.txt").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "place.partial"]


def test_a_link_gives_way_and_what_it_points_at_stays(tmp_path: Path) -> None:
    shared, place = folder(tmp_path / "shared", "shared"), tmp_path / "place"
    place.symlink_to(shared, target_is_directory=True)
    replace_folder(folder(tmp_path / "new", "new"), place)
    assert not place.is_symlink()
    assert (place / "word.txt").read_text() == "new"
    assert (shared / "word.txt").read_text() == "shared"
    assert not (tmp_path / "place.old").exists()
