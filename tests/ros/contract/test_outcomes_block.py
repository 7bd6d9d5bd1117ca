"""The contract's outcomes: what it may say, and what it makes of topics."""

from typing import Any

import pytest
from pydantic import ValidationError

from dql_ros.contract import Contract
from dql_ros.contract.outcomes import LABELS
from tests.ros.contract.test_takeover_block import ROBOT

JOY = {"topic": "joy", "type": "sensor_msgs/msg/Joy"}


def contract(**outcomes: Any) -> Contract:
    return Contract.model_validate(ROBOT | {"outcomes": outcomes})


def test_without_a_key_labels_come_in_words_alone() -> None:
    rules = contract().outcomes
    assert rules is not None
    assert not rules.flags
    assert [words.topic for words in rules.words] == ["outcome", "recorder/episode"]
    assert {words.equals for words in rules.words} == {LABELS}
    one = contract(topic="recorder/episode").outcomes
    assert one is not None
    assert len(one.words) == 1


def test_data_depends_on_it_and_the_meaning_of_its_numbers_does_not() -> None:
    plain, able, other = Contract.model_validate(ROBOT), contract(), contract(topic="word")
    assert len({each.hash() for each in (plain, able, other)}) == 3
    able.policy_spec().require_same_meaning(plain.policy_spec(), "one", "other", "")
    assert contract(failure_is="terminated").hash() == able.hash()


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        (
            {"topic": "/state"},
            "outcomes.topic is '/state', which the contract has another use for: labels in words "
            "need a topic of their own",
        ),
        ({"markers": "arm"}, "outcomes.markers is 'arm', which the contract has another use"),
        (
            {"topic": "joy", "success": {**JOY, "path": "buttons.0"}},
            "outcomes.topic is 'joy', which the contract has another use for",
        ),
        (
            {label: {**JOY, "path": "buttons.0"} for label in ("success", "discard")},
            "outcomes: two labels have the same flag: give each one of its own",
        ),
        ({"failure_is": "an end"}, "'terminated' or 'truncated'"),
        ({"sucess": {**JOY, "path": "buttons.0"}}, "sucess"),
    ],
)
def test_what_makes_no_sense_is_refused(outcomes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        contract(**outcomes)
    assert told in str(error.value)
