"""Random recordings with a person's labels: the converter against plain rules."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from dql_ros.contract import Contract
from dql_ros.contract.outcomes import LABELS
from dql_ros.convert.recorded_episode import (
    LACKS,
    Cause,
    Reason,
    RecordedEpisode,
    SkippedSpan,
    too_short,
)
from tests.ros.convert.fed_assembler import Arrival, Fed, fill
from tests.ros.convert.naive_episodes import NaiveAssembler, _Growing, _recorded
from tests.ros.convert.test_episodes_property import (
    COMMAND,
    FIELD,
    FLAG,
    FLOAT,
    STEP_NS,
    contracts,
    recordings,
)

pytestmark = pytest.mark.slow
NEVER = 1 << 62


class LabelledNaive(NaiveAssembler):
    """Knows a person's labels, too: all of them from the beginning on.

    Attributes:
        said: Their times and words, in their order.
    """

    def __init__(self, contract: Contract, said: list[tuple[int, str]]) -> None:
        super().__init__(contract)
        self.said = said
        self._tail_ns: int | None = None  # an episode that begins here follows a label
        self._is_tail = False
        self._kept: RecordedEpisode | None = None

    def finish(self) -> None:
        super().finish()
        self._take_labels(NEVER)

    def _begin(self, now_ns: int) -> _Growing | None:
        growing = super()._begin(now_ns)
        if growing is not None:
            self._is_tail, self._tail_ns = now_ns == self._tail_ns, None
        return growing

    def _may_run(self, now_ns: int) -> bool:
        if self._window.has_opening:
            for time_ns, _ in self.said:
                opening_ns = self._window.next_opening(time_ns)
                if time_ns <= now_ns and (opening_ns is None or opening_ns > now_ns):
                    return False
        return super()._may_run(now_ns)

    def _tick(self, growing: _Growing, now_ns: int) -> None:
        since_ns, length = growing.last_ns, len(growing.transitions)
        super()._tick(growing, now_ns)
        is_over = self._growing is not growing
        if len(growing.transitions) == length or self._is_tail or is_over:
            return
        if length == 0:
            self._take_labels(growing.start_ns)
        if any(since_ns < time_ns <= now_ns for time_ns, _ in self.said):
            self._close(growing, False, True, Reason(Cause.LABELLED))
            self._idle_reasons, self._over_ns = [Reason(Cause.BETWEEN)], now_ns
            self._tail_ns = None if self._window.has_opening else now_ns

    def _close(
        self, growing: _Growing, terminated: bool, truncated: bool, reason: Reason | None
    ) -> None:
        self._growing = None
        if reason is not None and not growing.transitions:
            self._wait(reason)
            return
        self._idle_since_ns = growing.last_ns
        self._idle_reasons = [reason or Reason(Cause.BETWEEN)]
        if self._is_tail:
            why = (Reason(Cause.AFTER_LABEL),)
            self.skipped.append(SkippedSpan(growing.start_ns, growing.last_ns, why))
            return
        self._take_labels(growing.start_ns)
        self._kept = _recorded(growing, terminated, truncated, reason)

    def _note_ages(self, ages_ns: Any) -> None:
        if not self._is_tail:
            super()._note_ages(ages_ns)

    def _take_labels(self, until_ns: int) -> None:
        kept, self._kept = self._kept, None
        taken = [each for each in self.said if each[0] <= until_ns]
        self.said = self.said[len(taken) :]
        if kept is None:
            return
        own = [label for time_ns, label in taken if time_ns > kept.start_ns]
        label, length, cause = (own or [""])[-1], len(kept), kept.ending.cause
        minimum = self._contract.episode.min_length
        outcomes = self._contract.outcomes
        assert outcomes is not None
        if label == "discard":
            why = (Reason(Cause.DISCARDED),)
            self.skipped.append(SkippedSpan(kept.start_ns, kept.end_ns, why))
            return
        if length < minimum:
            self.skipped.append(too_short(kept.start_ns, kept.end_ns, length, minimum))
            return
        was_let_go = cause in {Cause.NO_COMMAND, Cause.NO_TICK}
        if label and (cause not in LACKS or was_let_go):
            ends = label == "success" or outcomes.failure_is == "terminated"
            kept = replace(
                kept,
                outcome=label,  # type: ignore[arg-type]  # a word that is one
                terminated=kept.terminated or ends,
                truncated=kept.truncated and not ends,
            )
        self.episodes.append(kept)


@st.composite
def labels(draw: DrawFn, arrivals: list[Arrival]) -> list[tuple[int, str]]:
    """A few words of a person, somewhere in a recording or around it."""
    first = arrivals[0].arrived_ns if arrivals else 0
    steps = (arrivals[-1].arrived_ns - first) // (STEP_NS // 4) if arrivals else 0
    place = st.integers(-2, steps + 3)
    found = draw(st.sets(st.tuples(place, st.integers(1, 3)), max_size=8))
    return [(first + step * STEP_NS // 4, LABELS[code - 1]) for step, code in sorted(found)]


def spans(skipped: list[SkippedSpan]) -> list[tuple[int, int, str]]:
    return sorted((span.start_ns, span.end_ns, span.reason) for span in skipped)


def require_same(ours: list[RecordedEpisode], theirs: list[RecordedEpisode]) -> None:
    assert [each.outcome for each in ours] == [each.outcome for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.ending == other.ending
        assert (one.terminated, one.truncated) == (other.terminated, other.truncated)
        np.testing.assert_array_equal(one.ticks_ns, other.ticks_ns)
        np.testing.assert_array_equal(one.observations, other.observations)
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(
            np.asarray(one.rewards, float), np.asarray(other.rewards, float)
        )


def able(plain: Contract, **outcomes: Any) -> Contract:
    document = {**plain.model_dump(exclude_none=True), "outcomes": outcomes}
    return Contract.model_validate(document)


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_labels_do_what_the_rules_say(data: st.DataObject) -> None:
    plain = data.draw(contracts())
    rules = able(plain, failure_is=data.draw(st.sampled_from(["terminated", "truncated"])))
    arrivals = data.draw(recordings(plain))
    said = data.draw(labels(arrivals))
    cuts = data.draw(st.lists(st.integers(0, len(arrivals) + len(said)), max_size=6))
    require_as_the_rules_say(rules, arrivals, said, cuts)


def test_what_is_missing_after_a_label_is_not_why_nothing_runs() -> None:
    plain = Contract.model_validate(
        {
            "robot": "r",
            "rate_hz": 50.0,
            "observation": [{"topic": "fast", "max_age_s": 0.05, **FIELD}],
            "action": [
                {"topic": "command", "max_age_s": 0.04, **COMMAND},
                {"topic": "gripper", "max_age_s": 0.2, **COMMAND},
            ],
            "reward": {"topic": "reward", "type": FLOAT},
            "episode": {"start": {"topic": "start", "type": FLAG, "path": "data"}},
        }
    )
    begun_ns = 5_000_000_000
    arrivals = [
        Arrival(begun_ns + round(1e6 * ms), kind, name, 1.0)
        for ms, kind, name in (
            (0, "observation", "fast"),
            (0, "action", "command"),
            (0, "event", "start"),
            (30, "action", "command"),
            (37.5, "action", "gripper"),
            (45, "observation", "fast"),
        )
    ]
    require_as_the_rules_say(able(plain), arrivals, [(begun_ns + 2_500_000, "success")], [])


def require_as_the_rules_say(
    rules: Contract, arrivals: list[Arrival], said: list[tuple[int, str]], cuts: list[int]
) -> None:
    words = [
        Arrival(time_ns, "outcome", f"labels on {index % 2}", LABELS.index(label) + 1.0)
        for index, (time_ns, label) in enumerate(said)
    ]
    both = sorted([*arrivals, *words], key=lambda each: each.arrived_ns)
    expected = fill(LabelledNaive(rules, said), arrivals)
    for fed in (Fed(rules, both), Fed(rules, both, cuts)):
        require_same(fed.episodes, expected.episodes)
        assert spans(fed.skipped) == spans(expected.skipped)
        assert fed.ages_ns == expected.ages_ns


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_without_a_label_all_is_as_without_outcomes(data: st.DataObject) -> None:
    plain = data.draw(contracts())
    arrivals = data.draw(recordings(plain))
    quiet = [each._replace(kind="outcome", name="success", value=0.0) for each in arrivals[::3]]
    both = sorted([*arrivals, *quiet], key=lambda each: each.arrived_ns)
    cuts = data.draw(st.lists(st.integers(0, len(both)), max_size=6))
    expected, fed = Fed(plain, arrivals), Fed(able(plain), both, cuts)
    require_same(fed.episodes, expected.episodes)
    assert spans(fed.skipped) == spans(expected.skipped)
    assert fed.ages_ns == expected.ages_ns


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_how_a_recording_is_divided_changes_nothing_with_ticks_of_commands(
    data: st.DataObject,
) -> None:
    plain = data.draw(contracts())
    rules = able(plain).model_copy(update={"tick": "action", "nonfinite": "drop"})
    arrivals = data.draw(recordings(plain))
    words = [
        Arrival(time_ns, "outcome", "labels on x", LABELS.index(label) + 1.0)
        for time_ns, label in data.draw(labels(arrivals))
    ]
    both = sorted([*arrivals, *words], key=lambda each: each.arrived_ns)
    cuts = data.draw(st.lists(st.integers(0, len(both)), max_size=6))
    whole, pieces = Fed(rules, both), Fed(rules, both, cuts)
    require_same(pieces.episodes, whole.episodes)
    assert spans(pieces.skipped) == spans(whole.skipped)
