"""What a recorder hears of a person while it records is what a conversion reads later."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dql_core.errors import ContractError
from dql_ros.contract import resolve_topic
from dql_ros.contract.outcomes import LABELS, Label, Outcomes
from dql_ros.control.outcomes import HeardOutcomes
from dql_ros.convert.outcomes import Labels

RULES = Outcomes.model_validate(
    {
        label: {"topic": "joy", "type": "sensor_msgs/msg/Joy", "path": f"buttons.{number}"}
        for number, label in enumerate(LABELS)
    }
)


def joy(*buttons: int) -> Any:
    return SimpleNamespace(buttons=list(buttons))


@given(st.lists(st.tuples(*[st.integers(0, 1)] * 3), max_size=30), st.data())
def test_both_count_a_button_when_it_is_pressed(
    states: list[tuple[int, ...]], data: st.DataObject
) -> None:
    heard = HeardOutcomes(RULES, resolve_topic)
    live = [
        (index, label)
        for index, buttons in enumerate(states)
        for label in heard.receive("/joy", joy(*buttons))
    ]
    read = Labels()
    cuts = data.draw(st.lists(st.integers(0, len(states)), max_size=4))
    for piece in np.split(np.arange(len(states)), sorted(cuts)):
        for number, label in enumerate(LABELS):
            if len(piece):
                values = np.array([states[index][number] for index in piece], np.float64)
                read.extend(label, piece, values)
    assert read.take(len(states)) == live


def test_words_are_labels_each_time_and_others_are_not() -> None:
    heard = HeardOutcomes(RULES, resolve_topic)
    said: list[list[Label]] = [
        heard.receive("/outcome", SimpleNamespace(data=word))
        for word in ("success", "success", "Success", "", "discard")
    ]
    assert said == [["success"], ["success"], [], [], ["discard"]]
    assert heard.types == {"/joy": "sensor_msgs/msg/Joy", "/outcome": "std_msgs/msg/String"}


def test_a_joystick_with_too_few_buttons_is_named() -> None:
    heard = HeardOutcomes(RULES, resolve_topic)
    with pytest.raises(ContractError, match=r"joy: 'buttons\.0' asks for element 0"):
        heard.receive("/joy", joy())
