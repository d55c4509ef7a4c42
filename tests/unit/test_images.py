"""Image files: maps in every format, truncated images, masks, natural order of names."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.errors import InputError
from utils.images import (
    colour_depth,
    find_map,
    list_images,
    natural_key,
    read_map,
    read_mask,
    read_pfm,
    read_rgb,
    resize_mask,
    write_rgb,
)


def test_a_pfm_is_stored_bottom_row_first(tmp_path: Path) -> None:
    rows = np.arange(6, dtype="<f4").reshape(2, 3)  # what the file holds, from the bottom
    (tmp_path / "a.pfm").write_bytes(b"Pf\n3 2\n-1.0\n" + rows.tobytes())
    (tmp_path / "b.pfm").write_bytes(b"Pf\n3 2\n0.5\n" + rows.astype(">f4").tobytes())
    for name in ("a", "b"):
        np.testing.assert_array_equal(read_pfm(tmp_path / f"{name}.pfm"), [[3, 4, 5], [0, 1, 2]])
        assert read_pfm(tmp_path / f"{name}.pfm").dtype == np.float32
    (tmp_path / "c.pfm").write_bytes(b"PF\n1 1\n-1.0\n" + np.zeros(3, "<f4").tobytes())
    with pytest.raises(InputError, match="one-channel"):
        read_pfm(tmp_path / "c.pfm")


def test_our_pfm_is_what_opencv_writes(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(50, 90, (5, 7)).astype(np.float32)
    cv2.imwrite(str(tmp_path / "a.pfm"), depth)
    np.testing.assert_array_equal(read_map(tmp_path / "a.pfm"), depth)


def test_maps_of_every_ending_come_back(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(50, 90, (5, 7)).astype(np.float32)
    np.save(tmp_path / "a.npy", depth)
    cv2.imwrite(str(tmp_path / "b.tiff"), depth)
    cv2.imwrite(str(tmp_path / "c.png"), np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000)
    np.testing.assert_array_equal(read_map(tmp_path / "a.npy"), depth)
    np.testing.assert_array_equal(read_map(tmp_path / "b.tiff"), depth)
    assert read_map(tmp_path / "c.png").dtype == np.uint16
    assert find_map(tmp_path, "b") == tmp_path / "b.tiff"
    assert find_map(tmp_path, "d") is None
    (tmp_path / "d.png").write_bytes(b"not a png")
    with pytest.raises(InputError, match="cannot be read as a map"):
        read_map(tmp_path / "d.png")


def noisy(size: int = 96) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.98])
def test_a_truncated_jpeg_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "1.jpg"
    write_rgb(path, noisy())
    whole = path.read_bytes()
    read_rgb(path)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError) as caught:
        read_rgb(path)
    assert "1.jpg cannot be read" in caught.value.what
    assert "truncated" in caught.value.found
    assert "train.txt" in caught.value.do


def test_a_missing_image_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_rgb(tmp_path / "7.png")
    assert caught.value.found == "no such file"


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0] = 200
    write_rgb(tmp_path / "a" / "1.png", image)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a" / "1.png"), image)
    stored = cv2.imread(str(tmp_path / "a" / "1.png"))
    assert stored is not None
    assert tuple(stored[0, 0]) == (0, 0, 200)


def test_a_mask_is_whatever_is_not_zero(tmp_path: Path) -> None:
    grey = np.array([[0, 1], [128, 255]], np.uint8)
    write_rgb(tmp_path / "1.png", grey)
    np.testing.assert_array_equal(read_mask(tmp_path / "1.png"), [[False, True], [True, True]])
    colour = np.zeros((2, 2, 3), np.uint8)
    colour[0, 1, 2] = 9
    write_rgb(tmp_path / "2.png", colour)
    np.testing.assert_array_equal(read_mask(tmp_path / "2.png"), [[False, True], [False, False]])
    with pytest.raises(InputError, match="mask"):
        read_mask(tmp_path / "3.png")


def test_a_resized_mask_keeps_its_area() -> None:
    mask = np.zeros((40, 60), bool)
    mask[:20] = True
    small = resize_mask(mask, 30, 20)
    assert small.dtype == bool
    assert small[:10].all()
    assert not small[10:].any()


def test_natural_order_of_file_names(tmp_path: Path) -> None:
    for name in ("10.jpg", "2.JPG", "1.png", "b2.tif", "b10.tif", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["1.png", "2.JPG", "10.jpg", "b2.tif", "b10.tif"]
    assert list_images(tmp_path / "absent") == []
    assert natural_key("f2a10") < natural_key("f2a11") < natural_key("f10")


def test_a_picture_of_depth_is_black_where_unknown() -> None:
    depth = np.full((4, 4), np.nan)
    assert not colour_depth(depth).any()
    depth[:2] = [[50, 60, 70, 80]] * 2
    picture = colour_depth(depth)
    assert picture[:2].any(axis=-1).all()
    assert not picture[2:].any()
