"""Previous actions, live: by the rules of a conversion, and whatever moment a tick comes at."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dql_ros.contract import Contract
from dql_ros.control.observer import Observer
from dql_ros.control.previous_actions import PreviousActions
from dql_ros.convert.columns import TimedColumn

PERIOD = 48_000_000
FLOAT = "std_msgs/msg/Float64"
Rule = Literal["first", "held"]


def contract(command: Rule = "first", count: int = 2, max_age_s: float = 0.12) -> Contract:
    fields = [{"path": "data", "low": -5, "high": 1e9}]
    return Contract.model_validate(
        {
            "robot": "rover",
            "rate_hz": 1e9 / PERIOD,
            "observation": [
                {"topic": "x", "type": FLOAT, "stamp": "receive", "fields": [{"path": "data"}]}
            ],
            "action": [
                {"topic": topic, "type": FLOAT, "command": command, "max_age_s": max_age_s}
                | {"fields": fields}
                for topic in ("wheel", "arm")
            ],
            "previous_action": count,
        }
    )


def known(previous: PreviousActions, now_ns: int) -> list[float] | None:
    commands, lacks_ns = previous.at(now_ns)
    assert (commands is None) == (lacks_ns > 0)
    return None if commands is None else commands.tolist()


@settings(deadline=None)
@given(
    st.sampled_from(["first", "held"]),
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=30),
    st.integers(1, 6),
)
def test_they_are_what_a_conversion_says_of_each_period(
    rule: Rule, gaps: list[tuple[int, bool]], step: int
) -> None:
    """A command in five says that none is in force from then on."""
    quarter = PERIOD // 4
    times = quarter * np.cumsum([gap for gap, _ in gaps], dtype=np.int64)
    values, ended = np.arange(len(gaps), dtype=np.float64), np.array([e for _, e in gaps], bool)
    column = TimedColumn(1)
    column.extend(times, values[:, None], ended)
    previous, upcoming = PreviousActions(contract(rule)), 0
    for now in range(0, int(times.max(initial=0)) + 12 * quarter, step * quarter):
        while upcoming < len(times) and times[upcoming] <= now:
            value = None if ended[upcoming] else values[upcoming : upcoming + 1]
            previous.push(0, int(times[upcoming]), value)
            previous.push(1, int(times[upcoming]), value)
            upcoming += 1
        starts = now - PERIOD * np.array([1, 2])
        positions, ages = (
            column.held_at(starts) if rule == "held" else column.first_in(starts, starts + PERIOD)
        )
        if (positions < 0).any() or (ages > 0.12e9).any():
            assert known(previous, now) is None
        else:
            assert known(previous, now) == np.repeat(values[positions], 2).tolist()


@pytest.mark.parametrize("rule", ["first", "held"])
def test_a_tick_that_is_early_or_late_changes_nothing(rule: Rule) -> None:
    rng = np.random.default_rng(0)
    observer = Observer(contract(rule))
    seen = []
    for tick in range(200):
        now = tick * PERIOD + int(rng.integers(-PERIOD // 5, PERIOD // 5))
        observer.receive("x", Message(), now, now)
        seen.append(observer.at(now, now))
        observer.note_command(now, np.array([tick, -tick], np.float32))
    assert [each.values is None for each in seen] == [True] * 2 + [False] * 198
    assert seen[0].is_fresh
    for tick, each in enumerate(seen[2:], 2):
        assert each.values is not None
        last, before = tick - 1, tick - 2
        expected = [7, last, max(-last, -5), before, max(-before, -5)]
        assert each.values.tolist() == expected, "what is beyond the bounds is observed as them"


def test_a_tick_that_was_missed_leaves_the_command_before_in_force_while_it_may_be() -> None:
    observer = Observer(contract(max_age_s=0.09))
    for tick in (0, 1):
        observer.note_command(tick * PERIOD, np.array([tick, tick], np.float32))
    for tick, expected in ((2, [1, 1, 0, 0]), (3, [1, 1, 1, 1]), (4, None)):
        observer.receive("x", Message(), tick * PERIOD, tick * PERIOD)
        values = observer.at(tick * PERIOD, tick * PERIOD).values
        assert (None if values is None else values[1:].tolist()) == expected


def test_in_shadow_mode_they_are_of_whoever_drives() -> None:
    observer = Observer(contract())
    seen = []
    for tick, command in enumerate([1.0, np.nan, 2.0, 3.0, 4.0]):
        now = tick * PERIOD
        observer.receive("x", Message(), now, now)
        seen.append(observer.at(now, now, np.array([command, command])).values)
    assert seen[0] is None
    assert [None if each is None else each[[1, 3]].tolist() for each in seen[1:]] == [
        [1.0, 1.0],  # nothing came in the last period
        [2.0, 1.0],
        [3.0, 2.0],
        [4.0, 3.0],
    ]


class Message:
    """A number."""

    data = 7.0
