"""Drafts for recordings of others: each fits its own, or says in a line what is not there."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dql_ros.cli.contract import contract
from dql_ros.contract import load_contract

SHARED = Path(__file__).parents[4] / "shared" / "data"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not SHARED.is_dir(), reason="no recordings in ../shared/data"),
]
# The bags of which topics are commands, or could be taken for some: others have none.
WITHOUT_COMMANDS = (
    "galactic_sqlite3",
    "libmcap_0_8/array_msgs",
    "robot_localization_ros1/test1.bag",
    "robot_localization_ros1/test2.bag",
    "rosbag2_samples/mcap/no_metadata_multiple_files",
    "rosbag2_samples/mcap/wbag",
    "rosbag2_samples/sqlite3/no_metadata_multiple_files",
    "rosbag2_samples/sqlite3/wbag",
    "rosbag2_samples/zstd_file_compression",
    "rosbag2_samples/zstd_message_compression",
)
# Each topic came once or twice, or nothing but a map shows the state.
WITHOUT_STATE = (
    "all_common_interfaces/test_bag_mcap",
    "all_common_interfaces/test_bag_sqlite3",
    "libmcap_0_8/base_msgs",
    "nav2_mcap_zstd",
)
WITH_COMMANDS = {
    "crazyflie/pitch0bag": 330,
    "crazyflie/rollbag": 280,
    "crazyflie/yx1bag": 25,
    "turtlesim_jazzy": 320,
}
# Small recordings that went wrong, with what the draft says of rate and ages.
FAULTS = {
    "arm_and_gripper_on_one_joint_states": 90,
    "cdr_big_endian": 38,
    "cdr_empty_string_of_length_0": 38,
    "cdr_nonutf8_frame": 38,
    "definition_separator_glued_to_last_line": 38,
    "definition_with_bom": 38,
    "definition_with_crlf_of_joint_state": 38,
    "definition_with_wstring": 38,
    "float32_gps_utm_time": 38,
    "idl_long_double__internal_error": 38,
    "idl_only_type_with_include": 38,
    "multiarray_empty_once": 38,
    "recorder_paused_1h__init_max_age_200s": 100,
    "tf_order_changes": 38,
    "time_zero_before_the_clock__init_tells_no_rate": 100,
    "topics_without_slash": 38,
    "trajectory_part_of_joints": 38,
    "trajectory_stop_without_points": 37,
    "velocity_empty_in_every_second_joint_state": 98,
}


def drafted(tmp_path: Path, bag: Path) -> tuple[Path, str]:
    out = tmp_path / "draft.yaml"
    made = CliRunner().invoke(contract, ["init", str(bag), "--out", str(out)])
    assert made.exit_code == 0, made.output
    return out, made.output


def transitions(file: Path, bag: Path) -> int:
    checked = CliRunner().invoke(contract, ["check", str(file), str(bag)])
    assert checked.exit_code == 0, checked.output
    assert "problem:" not in checked.output
    fits = checked.output.replace("\n", " ").partition(": fits: ")[2]
    return int(fits.partition(" transitions")[0].rpartition(" ")[2])


@pytest.mark.parametrize(("name", "least"), WITH_COMMANDS.items())
def test_a_draft_fits_its_recording(tmp_path: Path, name: str, least: int) -> None:
    bag = SHARED / "bags" / name
    out, printed = drafted(tmp_path, bag)
    assert "fill in" not in printed
    assert transitions(out, bag) >= least


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *((name, "action") for name in WITHOUT_COMMANDS),
        *((name, "observation") for name in WITHOUT_STATE),
    ],
)
def test_a_draft_says_what_a_recording_has_not(tmp_path: Path, name: str, key: str) -> None:
    _, printed = drafted(tmp_path, SHARED / "bags" / name)
    assert f"fill in {key}: " in printed


@pytest.mark.parametrize(("name", "least"), FAULTS.items())
def test_a_draft_fits_a_recording_that_went_wrong(tmp_path: Path, name: str, least: int) -> None:
    bag = SHARED / "faults" / f"{name}.mcap"
    out, _ = drafted(tmp_path, bag)
    assert transitions(out, bag) >= least
    found = load_contract(out)
    assert max(stream.max_age_s for stream in found.observation) <= 1.0
    assert max(stream.max_age_s for stream in found.action) <= 1.0


@pytest.mark.parametrize(
    "name",
    ["recorder_paused_1h__init_max_age_200s", "time_zero_before_the_clock__init_tells_no_rate"],
)
def test_pauses_of_an_hour_or_a_life_do_not_change_the_rate(tmp_path: Path, name: str) -> None:
    out, _ = drafted(tmp_path, SHARED / "faults" / f"{name}.mcap")
    assert load_contract(out).rate_hz == 10


def test_of_three_flights_the_bounds_hold_all(tmp_path: Path) -> None:
    flights = sorted((SHARED / "bags" / "crazyflie").glob("*bag"))
    out = tmp_path / "all.yaml"
    made = CliRunner().invoke(contract, ["init", *map(str, flights), "--out", str(out)])
    assert made.exit_code == 0, made.output
    text = out.read_text()
    assert "from 3 recordings: pitch0bag, rollbag, yx1bag." in text
    assert "the median of the recordings (10.1 to 16.9)" in " ".join(text.replace("#", "").split())
    assert "this recording" not in text
    checked = CliRunner().invoke(contract, ["check", str(out), *map(str, flights)])
    assert checked.exit_code == 0, checked.output
    assert "beyond its bounds" not in checked.output


def test_a_constant_that_moved_in_another_flight_is_warned_of(tmp_path: Path) -> None:
    flights = SHARED / "bags" / "crazyflie"
    out, _ = drafted(tmp_path, flights / "pitch0bag")
    assert "- {path: orientation.x, constant: 0.0}" in out.read_text()
    for name, is_warned in (("pitch0bag", False), ("rollbag", True)):
        checked = CliRunner().invoke(contract, ["check", str(out), str(flights / name)])
        assert checked.exit_code == 0, checked.output
        assert (
            "'orientation.x' is sent as the constant 0, but was" in checked.output
        ) is is_warned
