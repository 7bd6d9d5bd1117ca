"""What a person who may take over wants: switch, commands and their ages, without ROS."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dql_core.errors import ContractError
from dql_core.runtime.takeover import Commander
from dql_ros.contract import Contract
from dql_ros.control.person import PersonHeard

MS = 1_000_000
FLOAT, TWIST, BOOL, JOY = (
    "std_msgs/msg/Float64",
    "geometry_msgs/msg/Twist",
    "std_msgs/msg/Bool",
    "sensor_msgs/msg/Joy",
)
BUTTON = {"topic": "joy", "type": JOY, "path": "buttons.4"}
SILENT = "a person has the switch and commands nothing"
Make = Callable[..., Any]


def heard(factor: float = 1.0, **takeover: Any) -> PersonHeard:
    given = {"topics": ["teleop/base", "teleop/grip"], "max_age_s": 0.2} | takeover
    rules = Contract.model_validate(
        {
            "robot": "r",
            "rate_hz": 20.0,
            "observation": [{"topic": "state", "type": FLOAT, "fields": [{"path": "data"}]}],
            "action": [
                {
                    "topic": "cmd_vel",
                    "type": TWIST,
                    "max_age_s": 99.0,
                    "fields": [
                        {"path": "linear.x", "low": -1, "high": 1},
                        {"path": "angular.z", "low": -1, "high": 1, "message_unit": "deg/s"}
                        | {"unit": "rad/s"},
                    ],
                },
                {
                    "topic": "grip",
                    "type": FLOAT,
                    "fields": [{"path": "data", "low": 0, "high": 1}],
                },
            ],
            "takeover": given,
        }
    )
    assert rules.takeover is not None
    return PersonHeard(rules, rules.takeover, factor)


@pytest.fixture(name="make")
def _make(blank: Callable[[str], Any]) -> Make:
    """Make a command of the base, of the gripper, a flag or a joystick's state."""

    def make(kind: str, *values: Any) -> Any:
        message = blank(kind)
        if kind == TWIST:
            message.linear.x, message.angular.z = values
        elif kind == JOY:
            message.buttons = np.array(values, np.int32)
        else:
            (message.data,) = values
        return message

    return make


def speak(person: PersonHeard, make: Make, now_ns: int, ahead: float = 0.5) -> None:
    person.receive("teleop/base", make(TWIST, ahead, 90.0), now_ns)
    person.receive("teleop/grip", make(FLOAT, 0.25), now_ns)


def test_whoever_speaks_commands_until_the_last_word_is_too_old(make: Make) -> None:
    person = heard()
    assert person.at(0).commander is Commander.POLICY
    person.receive("teleop/base", make(TWIST, 0.5, 90.0), 0)
    assert person.at(0).commander is Commander.POLICY, "a part of a command is none"
    person.receive("teleop/grip", make(FLOAT, 0.25), 100 * MS)
    wants = person.at(200 * MS)
    assert wants.commander is Commander.PERSON
    assert wants.command is not None
    np.testing.assert_allclose(wants.command, [0.5, np.pi / 2, 0.25])
    assert person.at(200 * MS + 1).commander is Commander.POLICY


def test_ages_are_in_the_robots_time(make: Make) -> None:
    person = heard(factor=2.0)
    speak(person, make, 0)
    assert person.at(100 * MS).commander is Commander.PERSON
    assert person.at(101 * MS).commander is Commander.POLICY


def test_a_button_decides_and_silence_is_the_fallbacks(make: Make) -> None:
    person = heard(switch=BUTTON)
    speak(person, make, 0)
    assert person.at(0).commander is Commander.POLICY
    person.receive_switch(make(JOY, 0, 0, 0, 0, 1, 0))
    assert person.at(0).commander is Commander.PERSON
    silent = person.at(300 * MS)
    assert silent.commander is Commander.NOBODY
    assert silent.silence == (
        f"{SILENT}: no command was heard on 'teleop/base' for 0.3 s; "
        f"no command was heard on 'teleop/grip' for 0.3 s"
    )
    person.receive_switch(make(JOY, 1, 1, 1, 1, 0, 1))
    assert person.at(300 * MS).commander is Commander.POLICY


def test_silence_may_be_the_policys(make: Make) -> None:
    person = heard(switch=BUTTON, when_silent="policy")
    person.receive_switch(make(JOY, 0, 0, 0, 0, 1))
    assert person.at(0).commander is Commander.POLICY


def test_a_switch_that_cannot_be_read_changes_nothing_and_is_told(make: Make) -> None:
    person = heard(switch=BUTTON)
    speak(person, make, 0)
    person.receive_switch(make(JOY, 0, 0, 0, 0, 1))
    with pytest.raises(ContractError, match=r"'buttons.4' asks for element 4"):
        person.receive_switch(make(JOY, 0, 0))
    assert person.at(0).commander is Commander.PERSON
    (refusal,) = person.refusals()
    assert refusal.startswith("the person's switch cannot be read: joy: 'buttons.4'")
    person.receive_switch(make(JOY, 0, 0, 0, 0, 0))
    assert not person.refusals()


@pytest.mark.parametrize(
    ("rule", "kind", "value", "told"),
    [
        ({"path": "buttons"}, JOY, [0, 1], "joy: 'buttons' is an array of 2, no flag"),
        ({}, FLOAT, [np.nan], "joy: 'data' is nan, no flag"),
    ],
)
def test_what_is_no_flag_is_refused(
    make: Make, rule: dict[str, str], kind: str, value: list[Any], told: str
) -> None:
    person = heard(switch={"topic": "joy", "type": kind} | rule)
    with pytest.raises(ContractError, match=told):
        person.receive_switch(make(kind, *value))
    assert person.figures()["person's switch"] == "off"


def test_a_switch_may_be_a_mode_in_words(make: Make) -> None:
    text = "std_msgs/msg/String"
    person = heard(switch={"topic": "mode", "type": text, "equals": ["manual", "teach"]})
    for word, commander in (("manual", "person"), ("auto", "policy"), ("teach", "person")):
        person.receive_switch(make(text, word))
        speak(person, make, 0)
        assert person.at(0).commander.value == commander


def test_after_a_command_that_is_no_number_none_is_in_force(make: Make) -> None:
    person = heard(switch={"topic": "take", "type": BOOL})
    person.receive_switch(make(BOOL, True))
    speak(person, make, 0)
    with pytest.raises(ContractError, match="is no command"):
        speak(person, make, 1, ahead=np.nan)
    silent = person.at(1)
    assert silent.commander is Commander.NOBODY
    assert silent.silence.startswith(f"{SILENT}: a person's command is not followed: teleop/base")
    assert person.figures() == {
        "heard commands of teleop/base": "1",
        "refused commands of teleop/base": "1",
        "heard commands of teleop/grip": "1",
        "refused commands of teleop/grip": "0",
        "delayed commands of a person": "0",
        "person's switch": "on",
    }
    speak(person, make, 2)
    assert person.at(2).commander is Commander.PERSON


def test_where_their_clock_was_set_back_the_commands_are_forgotten(make: Make) -> None:
    person = heard()
    speak(person, make, 1000 * MS)
    person.clear()
    assert person.at(10 * MS).commander is Commander.POLICY
