"""What COLMAP is given and how it names things: half a pixel, image names, pairs, features."""

from __future__ import annotations

from monocular.colmap_arrays import (
    colmap_parameters,
    feature_settings,
    image_name,
    image_pairs,
    split_name,
)
from utils.types import Camera


def test_half_a_pixel_is_added() -> None:
    assert colmap_parameters(Camera(300.0, 310.0, 159.5, 127.5, 320, 256)) == [300.0, 310.0, 160.0, 128.0]


def test_names_come_back() -> None:
    assert split_name(image_name("left", "a 1.b")) == ("left", "a 1.b")
    assert split_name(image_name("right", "7")) == ("right", "7")
    assert split_name("7.jpg") == ("left", "7")
    assert split_name("r/7.jpg") == ("right", "7")


def test_pairs_by_hand() -> None:
    """Three stereo frames: 3 within a frame, 3 x 2 between frames of one eye, 2 x 2 across to the next."""
    pairs = image_pairs(["a", "b", "c"], ["left", "right"])
    assert len(pairs) == len(set(pairs)) == 3 + 6 + 4
    assert ("left/a.png", "right/c.png") not in pairs
    assert ("left/a.png", "left/c.png") in pairs
    assert image_pairs(["a", "b"], ["left"]) == [("left/a.png", "left/b.png")]


def test_long_sequences_keep_a_bounded_number_of_pairs_a_frame() -> None:
    names = [str(number) for number in range(200)]
    pairs = {(first[5:-4], second[5:-4]) for first, second in image_pairs(names, ["left"])}
    apart = {int(second) for first, second in pairs if first == "0"}
    assert apart == {1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128}


def test_features_by_size() -> None:
    assert feature_settings(320, 256) == {"features": 910, "first_octave": -1, "octaves": 2}
    assert feature_settings(640, 512) == {"features": 2500, "first_octave": -1, "octaves": 3}
    assert feature_settings(1280, 1024) == {"features": 2500, "first_octave": 0, "octaves": 3}
