"""`dql contract`: init writes a contract that fits its recording, check says all that is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.errors import ContractError
from dql_ros.contract import load_contract
from tests.cli_process import dql
from tests.ros.bag.sample_writer import SampleWriter
from tests.ros.cli.cart import COMMAND, FITTING, POINT, SECOND, record_cart, run

BAGS = Path(__file__).parents[4] / "shared" / "data" / "bags"
ARM = Path(__file__).parents[1] / "arm.yaml"


@pytest.fixture
def bag(tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]) -> Path:
    return record_cart(tmp_path / "cart", record, blank)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cart.yaml"
    path.write_text(FITTING)
    return path


def told(*arguments: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("check", *arguments, "--json").stdout)
    return document


def changed(file: Path, before: str, after: str) -> Path:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    return file


def test_init_writes_a_contract_that_check_finds_to_fit(bag: Path, tmp_path: Path) -> None:
    out = tmp_path / "robot.yaml"
    made = run("init", bag, "--out", out)
    assert made.stdout == f"wrote {out}; go through it, then: dql contract check {out} {bag}\n"
    checked = run("check", out, bag)
    assert checked.exit_code == 0
    assert checked.stdout == f"{bag}: fits: 1 episode, 40 transitions: 4 of 4 s\n"


def test_init_refuses_to_overwrite(bag: Path, file: Path) -> None:
    with pytest.raises(ContractError, match=r"cart.yaml: already exists; name another --out"):
        run("init", bag, "--out", file)
    assert file.read_text() == FITTING


def test_init_names_the_file_after_the_bag(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run("init", next(bag.glob("*.mcap")))
    assert load_contract(Path("cart_0.yaml")).robot == "cart_0"


def test_init_takes_the_contract_that_a_recording_carries(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "own", contract_text=ARM.read_text()) as writer:
        writer.add_topic("/reward", "std_msgs/msg/Float64")
    run("init", tmp_path / "own", "--out", tmp_path / "robot.yaml")
    assert (tmp_path / "robot.yaml").read_text() == ARM.read_text()


def test_init_tells_what_is_to_be_filled_in_and_check_complains_of_just_that(
    tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]
) -> None:
    place = blank(POINT)
    lonely = record(tmp_path / "lonely", [("/place", POINT, SECOND, place)])
    out = tmp_path / "robot.yaml"
    made = run("init", lonely, "--out", out, "--rate", 10)
    assert made.exit_code == 0
    assert made.stdout.splitlines() == [
        f"wrote {out}, which is not complete:",
        "fill in observation: all that was found was sent only once; one must not be latched",
        "fill in action: no topic was found that commands the robot",
    ]
    checked = run("check", out)
    assert checked.exit_code == 2
    assert checked.stdout.splitlines()[0] == "problem: key 'action' is missing"


def test_check_without_a_bag_says_all_that_is_wrong_with_the_file(file: Path) -> None:
    changed(file, "rate_hz: 10.0", "rate_hz: -10.0")
    changed(file, "{path: point.x, unit: m}", "{path: point.x, unti: m}")
    changed(file, "low: -1.0, high: 1.0", "low: 1.0, high: -1.0")
    result = run("check", file)
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [
        "problem: unknown key 'observation.0.fields.0.unti' (did you mean 'unit'?)",
        "problem: key 'rate_hz' is -10.0: Input should be greater than 0",
        "problem: action.0.fields.0: 'low' must be below 'high', not 1.0 and -1.0",
        f"{file}: 3 to mend",
    ]


def test_check_without_a_bag_knows_the_standard_types(file: Path) -> None:
    changed(file, "path: point.x", "path: point.xx")
    changed(file, "std_msgs/msg/Float64MultiArray", "std_msgs/msg/Float64MultiArry")
    document = told(file)
    assert document["problems"] == [
        "observation.0 (/place): no field 'xx' for 'point.xx' (did you mean 'x'?)"
    ]
    assert len(document["warnings"]) == 1
    assert "unknown type 'std_msgs/msg/Float64MultiArry'" in document["warnings"][0]


def test_check_of_a_right_file_says_so(file: Path) -> None:
    result = run("check", file)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{file}: nothing is wrong with it; name a recording to compare it with\n"
    )


def test_check_tells_of_a_unit_that_is_none(file: Path, bag: Path) -> None:
    changed(file, "unit: m", "unit: meters")
    document = told(file)
    words = "unknown unit 'meters' (did you mean 'm'?): it is kept as a name that nothing"
    assert [text for text in document["warnings"] if words in text]
    assert document["problems"] == []


def test_check_tells_where_what_is_commanded_is_observed(file: Path, bag: Path) -> None:
    assert not [text for text in told(file, bag)["warnings"] if "and observed" in text]
    command = "topic: /commands\n    type: std_msgs/msg/Float64MultiArray"
    fields = "fields: [{path: data, indices: [0], names: [echo]}]"
    document = file.read_text()
    assert command in document
    file.write_text(document.replace("action:", f"  - {command}\n    {fields}\naction:"))
    (text,) = [text for text in told(file, bag)["warnings"] if "and observed" in text]
    assert text.startswith("/commands: data is commanded and observed, so that a policy may")


def test_check_with_its_arguments_swapped_says_which_comes_first(file: Path, bag: Path) -> None:
    for recording in (bag, next(bag.glob("*.mcap"))):
        with pytest.raises(ContractError, match="the contract comes first: dql contract check"):
            run("check", recording, file)


def test_check_says_all_in_which_a_bag_does_not_fit(file: Path, bag: Path) -> None:
    changed(file, "topic: /place", "topic: /plaze")
    changed(file, "indices: [0, 1]", "indices: [0, 2]")
    with file.open("a") as end:
        end.write("reward: {topic: /commands, type: std_msgs/msg/Float64}\n")
    problems = told(file, bag)["problems"]
    assert problems == [
        f"{bag}: no topic /plaze, which the contract needs as observation (did you mean "
        f"'/place'?); correct the contract or --namespace, or record it",
        f"{bag}: /commands is of type {COMMAND}, in the contract of type std_msgs/msg/Float64; "
        f"correct the contract",
        f"{bag}: action.0 (/commands): 'data' cannot be sent, since the contract gives index 1 no "
        f"value; select all elements of the array, or give it a 'constant'",
        f"{bag}, 0.000 s from its start: /commands: 'data' has 2 entries, no index 2; correct "
        f"'indices' in the contract, or skip such messages by 'when_absent: skip'",
    ]


def test_check_compares_functions_and_bags_in_one_go(file: Path, bag: Path) -> None:
    changed(file, "indices: [0, 1]", "indices: [0, 2]")
    with file.open("a") as end:
        end.write("reward: {function: 'dql_core.rewards:action_cast'}\n")
    problems = told(file, bag)["problems"]
    assert len(problems) == 3
    assert "'action_cast' (did you mean 'action_cost'?)" in problems[0]
    assert "'data' cannot be sent" in problems[1]
    assert "no index 2" in problems[2]


def test_check_warns_of_bounds_ages_and_rates(file: Path, bag: Path) -> None:
    changed(file, "unit: m}", "unit: m, low: 0.0, high: 3.05}")
    changed(file, f"type: {POINT}", f"type: {POINT}\n    max_age_s: 0.05")
    changed(file, "rate_hz: 10.0", "rate_hz: 40.0")
    document = told(changed(file, "high: 1.0", "high: 0.25"), bag)
    warnings = "\n".join(document["warnings"])
    assert (
        "/place: max_age_s is 0.05, but a value is usually 0.103 s old when the next comes; "
        "almost nothing can be used" in warnings
    )
    assert (
        "/place: 'place.point.x' is beyond its bounds 0 to 3.05 in 10 of 41 messages: it was 0 "
        "to 4" in warnings
    )
    assert (
        "/commands: 'commands.data.1' is beyond its bounds -1 to 0.25 in 20 of 41 messages"
        in warnings
    )
    assert (
        "/commands: came 10 times a second; at rate_hz 40 most actions repeat the one before"
        in warnings
    )


def test_check_warns_of_angles_in_degrees(
    file: Path, tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]
) -> None:
    messages = []
    for tick in range(20):
        place, command = blank(POINT), blank(COMMAND)
        place.header.stamp.nanosec, place.point.y = tick * 10**7, 9.0 * tick
        command.data = np.zeros(2)
        messages += [
            ("/place", POINT, tick * 10**7, place),
            ("/commands", COMMAND, tick * 10**7, command),
        ]
    warnings = told(file, record(tmp_path / "turning", messages))["warnings"]
    assert any(
        "/place: 'place.point.y' is up to 171 rad; if the messages have degrees, set "
        "'message_unit: deg'" in warning
        for warning in warnings
    )


def test_check_refuses_bounds_and_numbers_that_the_contract_refuses(
    file: Path, tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]
) -> None:
    messages = []
    for tick in range(20):
        place, command = blank(POINT), blank(COMMAND)
        place.header.stamp.nanosec = 1 + tick * 10**7
        place.point.x = np.nan if tick == 5 else 1e39
        command.data = np.array([0.0, 2.0])
        messages += [
            ("/place", POINT, tick * 10**7, place),
            ("/commands", COMMAND, tick * 10**7, command),
        ]
    with file.open("a") as end:
        end.write("beyond_bounds: refuse\n")
    problems = told(file, record(tmp_path / "bag", messages))["problems"]
    assert len(problems) == 2
    assert "'place.point.x' is NaN or infinite in 20 of 20 messages" in problems[0]
    assert "'commands.data.1' is beyond its bounds -1 to 1 in 20 of 20 messages" in problems[1]


def test_check_tells_of_another_clock(
    file: Path, tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]
) -> None:
    messages = []
    for tick in range(20):
        place, command = blank(POINT), blank(COMMAND)
        place.header.stamp.sec = tick
        command.data = np.zeros(2)
        now = (1000 + tick) * SECOND
        messages += [("/place", POINT, now, place), ("/commands", COMMAND, now, command)]
    problems = told(file, record(tmp_path / "bag", messages))["problems"]
    assert len(problems) == 1
    assert (
        "/place: 20 of 20 header stamps are farther than max_skew_s (60 s) from the time of "
        "receipt, up to 1000 s; 1 are zero; set 'stamp: receive'" in problems[0]
    )


def test_check_says_why_no_episode_can_be_made(file: Path, bag: Path) -> None:
    with file.open("a") as end:
        end.write("episode: {min_length: 1000}\n")
    problems = told(file, bag)["problems"]
    assert len(problems) == 1
    assert (
        "no episode could be made (0 of 4 s; lost: 4 s episode of 40 transitions, shorter than "
        "min_length 1000)" in problems[0]
    )


def test_check_says_how_much_is_used_and_what_the_rest_lacks(
    file: Path, tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]
) -> None:
    messages = []
    for tick in range(181):
        now = 50 * SECOND + tick * SECOND // 10
        place, command = blank(POINT), blank(COMMAND)
        place.header.stamp.sec, place.header.stamp.nanosec = divmod(now, SECOND)
        command.data = np.zeros(2)
        if tick <= 50 or tick >= 90:
            messages.append(("/place", POINT, now, place))
        if tick <= 90:
            messages.append(("/commands", COMMAND, now, command))
    used = record(tmp_path / "used", messages)
    result = run("check", file, used)
    assert result.stdout.splitlines()[-1] == (
        f"{used}: fits: 2 episodes, 61 transitions: 6.1 of 18 s; lost: 8.4 s no /commands, "
        f"3.5 s no /place"
    )
    (bag_,) = told(file, used)["bags"]
    assert (bag_["recorded_s"], bag_["used_s"]) == (18.0, 6.1)
    assert sum(each["lost_s"] for each in bag_["lost"]) == pytest.approx(11.9)


def test_check_counts_no_pauses_in_the_rate_of_commands(
    file: Path, tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]
) -> None:
    messages = []
    for tick in range(80):
        now = 50 * SECOND + tick * SECOND // 10 + tick // 20 * 63 * SECOND
        place, command = blank(POINT), blank(COMMAND)
        place.header.stamp.sec, place.header.stamp.nanosec = divmod(now, SECOND)
        place.point.x, command.data = float(tick), np.zeros(2)
        messages += [("/place", POINT, now, place), ("/commands", COMMAND, now, command)]
    warnings = told(file, record(tmp_path / "paused", messages))["warnings"]
    assert len(warnings) == 2
    assert all("3 pauses longer than max_age_s" in each for each in warnings)


def test_check_compares_commands_with_max_rate(file: Path, bag: Path) -> None:
    changed(file, "high: 1.0", "high: 1.0, max_rate: [1.0, 0.5]")
    (warning,) = told(file, bag)["warnings"]
    rates = 10 * np.abs(np.diff(np.cos(np.arange(40) / 5)))
    assert (
        f"/commands: 'commands.data.0' changes faster than max_rate (1 a second) in "
        f"{(rates > 1).sum()} of 39 ticks, by up to {rates.max():.4g}; the robot will follow more "
        f"slowly than this" in warning
    )


def test_check_says_what_is_the_same_once(file: Path, bag: Path, tmp_path: Path) -> None:
    changed(file, "unit: m}", "unit: m, low: 0.0, high: 3.05}")
    again = tmp_path / "again"
    shutil.copytree(bag, again)
    (warning,) = told(file, bag, again)["warnings"]
    assert warning.startswith(f"{bag} and 1 more: /place: 'place.point.x' is beyond its bounds")


def test_what_is_said_of_many_fields_is_short(
    file: Path, tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]
) -> None:
    messages = []
    for tick in range(20):
        place, command = blank(POINT), blank(COMMAND)
        place.header.stamp.nanosec, command.data = 1 + tick * 10**7, np.full(60, 2.0)
        messages += [
            ("/place", POINT, tick * 10**7, place),
            ("/commands", COMMAND, tick * 10**7, command),
        ]
    changed(file, "indices: [0, 1]", 'slice: "0:60"')
    warnings = told(file, record(tmp_path / "wide", messages))["warnings"]
    bounds = [each for each in warnings if "bounds" in each or "the same of" in each]
    assert len(bounds) == 3
    assert "the same of 58 more fields: 'commands.data.2'" in bounds[2]
    assert all(len(each) < 800 for each in warnings)


def test_check_goes_on_after_a_bag_that_cannot_be_read(
    file: Path, bag: Path, tmp_path: Path
) -> None:
    document = told(file, tmp_path / "cert", bag)
    assert document["fits"] is False
    assert len(document["problems"]) == 1
    assert "no such bag" in document["problems"][0]
    assert [each["transitions"] for each in document["bags"]] == [0, 40]


def test_users_mistakes_are_one_line_each_and_exit_code_2(file: Path, tmp_path: Path) -> None:
    for arguments in (["check", tmp_path / "none.yaml"], ["init", tmp_path / "none"]):
        result = dql("contract", *arguments)
        assert result.returncode == 2
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.realdata
@pytest.mark.skipif(not BAGS.is_dir(), reason="no recordings in ../shared/data/bags")
def test_shipped_contract_fits_the_flights() -> None:
    shipped = Path(__file__).parents[3] / "config" / "contracts" / "crazyflie.yaml"
    flights = sorted((BAGS / "crazyflie").glob("*bag"))
    document = told(shipped, *flights)
    assert document["fits"]
    assert [each["transitions"] for each in document["bags"]] == [338, 239, 17]
