"""Options: one parser over all sections, nearest names, numbers in every spelling, the reference's flags."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from run import SECTIONS
from utils.errors import InputError
from utils.options import option, parse_options, stamped
from utils.reference_flags import RETIRED

CONFIGS = Path(__file__).parents[2] / "configs"
REFERENCE_FLAGS = """
    expname basedir datadir demo blender cam_l cam_r R_matrix t_vec baseline cam_dist pixel_size delta_d
    depth_gt_mean resize viz depth_N_rand depth_N_iters depth_H depth_W depth_lrate depth_i_weights depth_i_print
    nerf_type netdepth netwidth N_rand N_iters lrate lrate_decay chunk netchunk no_reload ft_path N_samples
    mask_loss train_binocular mask_guide_sample_rate no_depth_sampling depth_loss_weight N_importance
    do_half_precision no_depth_refine depth_refine_start depth_refine_period depth_refine_rounds
    depth_refine_quantile perturb use_viewdirs i_embed i_embed_views multires multires_views raw_noise_std
    render_only render_test render_factor white_bkgd factor N_views no_ndc lindisp spherify near far topk
    llff_renderpath i_print i_img i_weights i_testset i_video video_fps worker_num
"""
OUR_FLAGS = """
    config seed only from until field poses poses_path min_registered stereo matcher match_max_dy
    match_min_confidence rotation_convention pixel_origin image_dir depth_png_mm disparity_png_px w_mask w_grad
    w_reflect device
"""
# What the commands of the reference system give: guidance, depth loss, rounds, steps.
REFERENCE_RUNS = {
    "kidney": (0.4, 0.01, 3, 100001),
    "liver": (0.4, 0.01, 3, 20001),
    "dia": (0.8, 0.001, 3, 100001),
    "f5": (0.4, 0.01, 3, 20001),
    "scared": (0.4, 0.01, 3, 20001),
    "scared2": (0.4, 0.01, 3, 20001),
    "c1": (0.4, 0.01, 3, 100001),
    "20230523": (0.0, 0.01, 0, 20001),
}
T_VEC = (-406.05, 1.26, 152.08)


@dataclasses.dataclass(frozen=True)
class Light:
    """A toy section."""

    bright: bool = option(False, "a switch")
    power: float = option(1.5, "a number")
    mode: str = option("soft", "a choice", choices=("soft", "hard"))
    count: int = option(3, "a whole number")
    place: tuple[float, ...] | None = option(None, "a vector")
    chunk: int = option(10, "speed only", affects_result=False)
    start: str = option("", "a field whose name cannot be the flag's", flag="from")


def parse(*words: str, text: str = "", folder: Path | None = None) -> Any:
    """Return the toy section from a command line and the text of a configuration file."""
    argv = list(words)
    if folder is not None:
        (folder / "toy.txt").write_text(text)
        argv = ["--config", str(folder / "toy.txt"), *argv]
    return parse_options({"light": Light}, {"gas": "ignored: light is electric"}, argv)[0]["light"]


def refused(*words: str, text: str = "", folder: Path | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        parse(*words, text=text, folder=folder)
    return caught.value


def all_sections(*words: str) -> tuple[dict[str, Any], list[str]]:
    return parse_options(SECTIONS, RETIRED, words)


def test_defaults_command_line_and_file_in_ascending_order_of_right(tmp_path: Path) -> None:
    assert parse() == Light()
    assert parse(text="power = 2\ncount = 7\n", folder=tmp_path) == Light(power=2.0, count=7)
    assert parse("--power", "4", text="power = 2\ncount = 7\n", folder=tmp_path) == Light(power=4.0, count=7)
    assert parse("--from", "here").start == "here"


def test_a_misspelt_key_in_a_file_names_the_nearest(tmp_path: Path) -> None:
    error = refused(text="powr = 2\n", folder=tmp_path)
    assert error.what == f"unknown option `powr` in {tmp_path / 'toy.txt'}"
    assert "`power`" in error.expected


def test_a_misspelt_flag_on_the_command_line_names_the_nearest() -> None:
    for words in (("--powr", "2"), ("--powr=2",)):
        assert "`power`" in refused(*words).expected
    assert "`N_iters`" in _all_refused("--N_iter", "5").expected
    assert "`depth_refine_rounds`" in _all_refused("--depth_refine_round", "5").expected


def test_abbreviations_are_errors() -> None:
    assert "unknown option `pow`" in refused("--pow", "2").what


def test_a_name_like_no_other_points_to_the_help() -> None:
    assert "--help" in refused("--zzzzzz").expected


def test_a_stray_word_is_refused() -> None:
    assert "stray" in refused("--power", "2", "stray").what


@pytest.mark.parametrize(
    ("line", "expected"),
    [("bright", True), ("bright = True", True), ("bright = true", True), ("bright = False", False), ("", False)],
)
def test_switches_in_a_file(tmp_path: Path, line: str, expected: bool) -> None:
    assert parse(text=line + "\n", folder=tmp_path).bright is expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["--bright"], True), (["--bright", "False"], False), (["--bright=no"], False), (["--bright", "on"], True)],
)
def test_switches_on_the_command_line(words: list[str], expected: bool) -> None:
    assert parse(*words).bright is expected


def test_the_command_line_can_switch_off_what_the_file_switches_on(tmp_path: Path) -> None:
    assert parse("--bright", "False", text="bright = True\n", folder=tmp_path).bright is False


@pytest.mark.parametrize(
    "words",
    [
        ["--place", "-406.05,1.26,152.08"],
        ["--place", "-406.05", "1.26", "152.08"],
        ["--place=-406.05,1.26,152.08"],
        ["--place", "[-406.05,", "1.26,", "152.08]"],
        ["--place", "-406.05,1.26,152.08", "--bright"],
    ],
)
def test_vectors_on_the_command_line(words: list[str]) -> None:
    assert parse(*words).place == T_VEC


@pytest.mark.parametrize(
    "value", ["-406.05,1.26,152.08", "[-406.05, 1.26, 152.08]", "[-406.05,1.26,152.08]", "-406.05 1.26 152.08"]
)
def test_vectors_in_a_file(tmp_path: Path, value: str) -> None:
    assert parse(text=f"place = {value}\n", folder=tmp_path).place == T_VEC


def test_the_real_flag_takes_the_published_translation() -> None:
    options, _ = all_sections("--t_vec", "-406.05", "1.26", "152.08", "--cam_l", "942.05,181.44,156.68")
    assert options["scene"].t_vec == T_VEC
    assert options["scene"].cam_l == (942.05, 181.44, 156.68)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--count", "many"], "many"),
        (["--count", "2.5"], "2.5"),
        (["--power", "strong"], "strong"),
        (["--mode", "loud"], "loud"),
        (["--place", "1,b,3"], "'1 b 3'"),
        (["--bright", "maybe"], "maybe"),
        (["--power"], "power"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(words: list[str], named: str, tmp_path: Path) -> None:
    assert named in refused(*words).found
    if len(words) == 2:
        text = f"{words[0].lstrip('-')} = {words[1]}\n"
        assert named in refused(text=text, folder=tmp_path).found


def test_a_missing_configuration_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.txt"):
        all_sections("--config", str(tmp_path / "absent.txt"))


def test_sections_are_frozen() -> None:
    options, _ = all_sections()
    for name, section in options.items():
        field = dataclasses.fields(section)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, field, 1)
        assert isinstance(hash(section), int), f"{name} holds something that can change"


def test_a_stamp_holds_what_changes_the_result_and_nothing_else() -> None:
    assert stamped(Light(place=(1.0, 2.0))) == {
        "bright": False,
        "power": 1.5,
        "mode": "soft",
        "count": 3,
        "place": [1.0, 2.0],
        "start": "",
    }


def test_a_flag_of_several_sections_reaches_all_of_them() -> None:
    options, _ = all_sections("--train_binocular", "--seed", "7")
    assert options["scene"].train_binocular
    assert options["nerf"].train_binocular
    assert options["poses"].seed == options["nerf"].seed == 7


def test_sections_that_disagree_on_a_default_are_our_mistake() -> None:
    other = dataclasses.make_dataclass("Other", [("power", float, option(9.0, "another default"))], frozen=True)
    with pytest.raises(TypeError, match="power"):
        parse_options({"light": Light, "other": other}, {}, [])


@pytest.mark.parametrize("flag", [*REFERENCE_FLAGS.split(), *OUR_FLAGS.split()])
def test_every_flag_of_the_design_is_known(flag: str) -> None:
    message = ""
    try:
        all_sections(f"--{flag}")
    except InputError as error:
        message = error.what  # a value may be missing
    assert "unknown" not in message


@pytest.mark.parametrize(
    "words", [["--blender"], ["--delta_d", "-30"], ["--render_factor=4"], ["--netchunk", "65536"]]
)
def test_a_retired_flag_gives_one_line_and_no_error(words: list[str]) -> None:
    options, notices = all_sections(*words)
    assert len(notices) == 1
    assert notices[0].startswith(words[0].split("=")[0] + ": ignored: ")
    assert "\n" not in notices[0]
    assert options == all_sections()[0]


def test_retired_flags_in_a_file_give_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    path.write_text("white_bkgd = True\nspherify\ni_video = 50000\nN_iters = 5\n")
    options, notices = all_sections("--config", str(path))
    assert sorted(line.split(":")[0] for line in notices) == ["--i_video", "--spherify", "--white_bkgd"]
    assert options["nerf"].N_iters == 5


def test_no_flag_is_both_retired_and_in_use() -> None:
    used = {field.metadata.get("flag") or field.name for s in SECTIONS.values() for field in dataclasses.fields(s)}
    assert used & set(RETIRED) == set()


def test_every_flag_explains_itself() -> None:
    for section in SECTIONS.values():
        for field in dataclasses.fields(section):
            assert field.metadata["help"], field.name


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_configuration_parses(path: Path) -> None:
    options, notices = all_sections("--config", str(path))
    assert options["experiment"].expname == path.stem
    assert options["scene"].datadir == options["poses"].datadir == f"./data/{path.stem}"
    assert notices == []


@pytest.mark.parametrize("name", REFERENCE_RUNS)
def test_reference_configurations_hold_the_values_of_the_reference_commands(name: str) -> None:
    nerf = all_sections("--config", str(CONFIGS / f"{name}.txt"))[0]["nerf"]
    found = (nerf.mask_guide_sample_rate, nerf.depth_loss_weight, nerf.depth_refine_rounds, nerf.N_iters)
    assert found == REFERENCE_RUNS[name]
    assert (nerf.depth_refine_start, nerf.depth_refine_period) == (10000, 1000)
    if name == "20230523":
        assert nerf.i_weights == 3000
        assert not nerf.guided
    if name in ("kidney", "liver", "dia", "f5"):
        scene = all_sections("--config", str(CONFIGS / f"{name}.txt"))[0]["scene"]
        assert scene.t_vec == T_VEC
        assert scene.rotation_convention == "matlab"


def test_the_embedded_examples_make_their_data() -> None:
    for name, rig in (("phantom", "parallel"), ("phantom_verged", "verged")):
        options, _ = all_sections("--config", str(CONFIGS / f"{name}.txt"))
        assert options["phantom"].phantom == rig
        assert options["evaluation"].depth_png_mm == 0.01


def _all_refused(*words: str) -> InputError:
    with pytest.raises(InputError) as caught:
        all_sections(*words)
    return caught.value
