"""From aligned streams to episodes of transitions, by the contract's rules; knows no files.

The rules, for a tick grid with period dt that starts at the first instant at which every
observation stream is available:

* The observation of tick t holds, per stream, the newest value that had arrived by t, whose stamp
  is not after t, and which is not older than the stream allows.
* The action of tick t is the first command of [t, t + dt); where there is none, the newest one
  before t, if it is not older than the action stream allows. With ``command: held`` it is always
  the newest at or before t.
* With a ``delay_s`` commands count as of so much earlier than they took effect, which is
  ``recorded_delay_s`` after their time. Of as much at the end of a recording there is none.
* The action is a person's if the contract's takeover says so of the command.
* The reward of tick t is the sum of the reward messages that arrived in (t, t + dt], or in
  [t, t + dt) with ``tick: begun``.
* A terminated or truncated signal in (t, t + dt] makes the transition from t the episode's last,
  and so does a person's label (`dql_ros.convert.outcomes`).
* Where something is missing, the episode ends (truncated) with the last whole transition and the
  next one begins as soon as everything is available again. Nothing is filled in.
* Start and stop events, or a state, say when an episode may run; what they end is truncated.
* What is still open when the recording stops is truncated. So it is at an interruption: where a
  part of the recording is lost, or a clock was set. What is known of streams that are not latched
  and of commands from before its end is forgotten there.

With ``tick: action`` the times of the first action topic's commands are the ticks instead.

The result depends on what arrived when, not on how the recording is divided for reading.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_ros.contract import Contract
from dql_ros.convert.alignment import AlignedRows, Alignment, Flags, OnArrivals
from dql_ros.convert.columns import Times
from dql_ros.convert.outcomes import LabelledEpisodes
from dql_ros.convert.recorded_episode import (
    Cause,
    Interruption,
    Reason,
    RecordedEpisode,
    SkippedSpan,
)
from dql_ros.convert.transitions import (
    END_OF_TIME_NS,
    FEW_TICKS,
    MAX_TICKS,
    Ticks,
    Transitions,
    transitions,
)


@dataclass
class _Growing:
    """An episode under construction: rows of its columns so far."""

    start_ns: int
    last_ns: int
    ticks_ns: list[Times]
    first_ages_ns: dict[str, Times]
    observations: list[NDArray[np.float64]]
    actions: list[NDArray[np.float64]] = field(default_factory=list)
    rewards: list[NDArray[np.float64]] = field(default_factory=list)
    interventions: list[NDArray[np.int8]] = field(default_factory=list)
    length: int = 0
    follows_label: bool = False  # so that it is in no episode

    def recorded(self, terminated: bool, truncated: bool, ending: Reason) -> RecordedEpisode:
        """Return the episode, now that it is whole."""
        return RecordedEpisode(
            ticks_ns=np.concatenate(self.ticks_ns),
            observations=np.concatenate(self.observations),
            actions=np.concatenate(self.actions),
            rewards=np.concatenate(self.rewards) if self.rewards else None,
            terminated=terminated,
            truncated=truncated,
            ending=ending,
            interventions=np.concatenate(self.interventions) if self.interventions else None,
        )


class EpisodeAssembler:
    """Cuts the messages of one recording into episodes.

    Attributes:
        skipped: What is in no episode so far.
        dropped_ticks: Ticks that were left out of episodes for a value that is no number.
        split_nonfinite: Episodes that such a value ended.
        labelled: Keeps each episode until it is known what a person says of it.

    Args:
        contract: What is needed, at which rate, and where episodes end.
        on_episode: Takes each episode when it is complete.
        on_ages: Takes, for an ``observation`` or ``action`` and its topic, the ages in nanoseconds
            of its value at ticks that are used, shape (n,); a command's is 0 unless it was held
            from before the tick.
        on_arrivals: See `Alignment`.
    """

    def __init__(
        self,
        contract: Contract,
        on_episode: Callable[[RecordedEpisode], None],
        on_ages: Callable[[str, str, Times], None] = lambda _kind, _topic, _ages: None,
        on_arrivals: OnArrivals = lambda _kind, _name, _arrived, _columns: None,
    ) -> None:
        self.skipped: list[SkippedSpan] = []
        self.dropped_ticks = 0
        self.split_nonfinite = 0
        self._contract = contract
        self._on_ages = on_ages
        self._alignment = Alignment(contract, on_arrivals)
        self.labelled = LabelledEpisodes(
            contract, self._alignment.labels, on_episode, self.skipped.append
        )
        self._lag_ns = self._alignment.lag_ns
        self._ticks = Ticks(contract, self._alignment)
        self._look = FEW_TICKS  # how many ticks are looked at next
        self._interruptions: list[Interruption] = []  # to come, ascending
        self._growing: _Growing | None = None
        self._has_past = bool(contract.previous_action) or any(
            stream.history > 1 for stream in contract.observation
        )
        self._left_ns = 0  # until then all that was is no past of what comes
        self._ended_ns: int | None = None  # a signal or a label ended the last episode then
        self._labelled_ns: int | None = None  # a label did, and nothing has happened since
        self._cut_ns: int | None = None  # since then something is lost, and none has begun
        self._from_ns = 0  # the next episode begins at or after this
        self._from_is_instant = False
        self._idle_since_ns: int | None = None
        self._idle_reasons: list[Reason] = []

    def push(self, kind: str, name: str, arrived_ns: Times, *columns: NDArray[Any]) -> None:
        """Take in messages; see `Alignment.push`."""
        self._alignment.push(kind, name, arrived_ns, *columns)

    def interrupt(self, interruption: Interruption) -> None:
        """Take note of an interruption; best before `advance` passes its start."""
        insort(self._interruptions, interruption, key=lambda each: each.start_ns)

    def advance(self, until_ns: int) -> None:
        """Do what is due, now that all that arrived before ``until_ns`` is pushed."""
        while self._interruptions and self._interruptions[0].start_ns <= until_ns:
            self._stop_at(self._interruptions.pop(0))
        self._alignment.release(until_ns)
        now_ns = self._alignment.last_arrival_ns
        if now_ns is not None:
            # After the last arrival the recording may be over, and nothing is known of it.
            self._settle(min(until_ns, now_ns + 1) - self._lag_ns, is_finished=False)

    def _stop_at(self, interruption: Interruption) -> None:
        """End what came before an interruption, as where a recording stops, and forget it."""
        self._alignment.release(interruption.start_ns)
        now_ns = self._alignment.last_arrival_ns
        if now_ns is not None:
            if interruption.reason.cause is Cause.LOST:
                self._cut_off(now_ns, interruption.reason)
            else:
                self._end_known(now_ns, interruption.reason)
        self.labelled.settle(interruption.start_ns)
        self._wait(interruption.reason)
        self._alignment.forget_all_before(interruption.end_ns, interruption.unheard)
        self._from_ns, self._from_is_instant = max(interruption.end_ns, self._from_ns), False
        self._labelled_ns = None
        if any(("signal", name) in interruption.unheard for name in ("terminated", "truncated")):
            self._ended_ns = interruption.end_ns

    def _cut_off(self, now_ns: int, reason: Reason) -> None:
        """End what came before a loss with the last transition of which nothing may be lost."""
        known_ns = now_ns - self._alignment.longest_delay_ns  # later commands may be on their way
        self._settle(known_ns + 1, is_finished=True)
        if self._cut_ns is None:
            self._cut_ns = known_ns if self._growing is None else self._growing.last_ns
        if self._growing is not None:
            self._close(self._growing, reason)

    def finish(self) -> None:
        """Close the recording."""
        self.advance(END_OF_TIME_NS)
        now_ns = self._alignment.last_arrival_ns
        if now_ns is None:
            self.labelled.settle(END_OF_TIME_NS)
            return
        self._end_known(now_ns, Reason(Cause.RECORDING_STOPPED))
        self.labelled.settle(END_OF_TIME_NS)
        self._note_skipped(now_ns)

    def _end_known(self, now_ns: int, reason: Reason) -> None:
        """Do all that is decided if nothing follows ``now_ns``, and end the episode."""
        known_ns = now_ns - self._alignment.unknown_ns
        self._settle(known_ns + 1, is_finished=True)
        if self._growing is not None:
            self._stop(self._growing, known_ns, reason)

    def _settle(self, horizon_ns: int, *, is_finished: bool) -> None:
        """Do all that is decided by what is known before ``horizon_ns``."""
        if self._idle_since_ns is None:
            if not len(self._alignment.instants_ns):
                return
            self._idle_since_ns = int(self._alignment.instants_ns[0])
            self._from_ns = max(self._idle_since_ns, self._from_ns)
        while True:
            growing = self._growing or self._begin(horizon_ns)
            if growing is None or not self._grow(growing, horizon_ns, is_finished=is_finished):
                break
        self._alignment.forget_before(
            self._growing.last_ns if self._growing is not None else self._from_ns
        )

    def _begin(self, horizon_ns: int) -> _Growing | None:
        """Begin an episode at the first instant at which everything is there."""
        while len(ticks := self._candidates(horizon_ns)):
            ended_ns = self._attempt_ended(int(ticks[-1]))
            if ended_ns is not None and ended_ns <= ticks[0]:
                self._leave_behind(ended_ns)
                continue
            if ended_ns is not None:
                ticks = ticks[ticks < ended_ns]
            is_open = self._may_begin(ticks)
            observed = self._alignment.observation_at(ticks)
            usable = observed.known & observed.finite & is_open
            found = int(np.argmax(usable)) if usable.any() else len(ticks)
            self._wait_for(observed, is_open, found)
            if found < len(ticks):
                return self._start(ticks, observed, found)
            self._from_ns, self._from_is_instant = int(ticks[-1]) + 1, False
            self._look_at(more=True)
        if horizon_ns > self._from_ns:
            while (ended_ns := self._attempt_ended(horizon_ns - 1)) is not None:
                self._leave_behind(ended_ns)
            self._from_ns, self._from_is_instant = horizon_ns, False
        self._note_ends(self._from_ns)
        return None

    def _attempt_ended(self, until_ns: int) -> int | None:
        """When a signal up to ``until_ns`` ended what was no episode yet, for want of a past."""
        if not self._has_past:
            return None
        after_ns = self._from_ns - (not self._from_is_instant)
        ended_ns = self._alignment.next_end(max(self._left_ns, after_ns))
        return None if ended_ns is None or ended_ns > until_ns else ended_ns

    def _leave_behind(self, ended_ns: int) -> None:
        """Forget an attempt that ended before it was an episode: it is no past of the next."""
        self._alignment.forget_episode(ended_ns)
        self._left_ns = ended_ns

    def _candidates(self, horizon_ns: int) -> Times:
        return self._ticks.candidates(
            self._from_ns, horizon_ns, self._look, is_instant=self._from_is_instant
        )

    def _may_begin(self, ticks: Times) -> Flags:
        """Whether an episode may run at each tick, by the contract's events."""
        window = self._alignment.window
        is_open: Flags = window.is_open(ticks)
        if not window.has_opening:
            return is_open
        if self._ended_ns is not None:
            is_open &= ticks >= self._opening_after(self._ended_ns)
        self._alignment.labels.close(is_open, ticks, self._opening_after)
        after_ns = self._cut_ns
        while after_ns is not None:
            ended_ns = self._alignment.next_end(after_ns)
            if ended_ns is None or ended_ns > ticks[-1]:
                break
            opening_ns = self._opening_after(ended_ns)
            is_open &= (ticks < ended_ns) | (ticks >= opening_ns)
            after_ns = max(ended_ns, opening_ns - 1)
        return is_open

    def _opening_after(self, ended_ns: int) -> int:
        opening_ns = self._alignment.window.next_opening(ended_ns)
        return END_OF_TIME_NS if opening_ns is None else opening_ns

    def _note_ends(self, until_ns: int) -> None:
        """Take note of ends of what was cut off where something is lost, before they are dropped.

        Without the loss an episode might have run until then, and ended for good.
        """
        while self._cut_ns is not None:
            ended_ns = self._alignment.next_end(self._cut_ns)
            if ended_ns is None or ended_ns >= until_ns:
                break
            self._ended_ns = self._cut_ns = ended_ns

    def _look_at(self, *, more: bool) -> None:
        """Look at twice as many ticks next, since all were of use, or at few."""
        self._look = min(2 * self._look, MAX_TICKS) if more else FEW_TICKS

    def _start(self, observed_at: Times, observed: AlignedRows, row: int) -> _Growing:
        tick_ns = int(observed_at[row])
        ages = {topic: age[row : row + 1] for topic, age in observed.ages_ns.items()}
        first = observed.values[row : row + 1]
        self._growing = _Growing(tick_ns, tick_ns, [observed_at[row : row + 1]], ages, [first])
        self._growing.follows_label = tick_ns == self._labelled_ns
        self._ended_ns = self._cut_ns = self._labelled_ns = None
        return self._growing

    def _grow(self, growing: _Growing, horizon_ns: int, *, is_finished: bool) -> bool:
        """Append what is decided; returns whether there is more to do before the horizon."""
        last_ns = growing.last_ns
        decided_ns = self._ticks.decided_before(horizon_ns, is_finished=is_finished)
        stop_ns = self._alignment.window.next_event(growing.start_ns)
        limit_ns = decided_ns - 1 if stop_ns is None else min(decided_ns - 1, stop_ns)
        deadline_ns = last_ns + self._ticks.longest_ns
        ticks = self._ticks.after(last_ns, limit_ns, self._look)
        if len(ticks):
            self._append(growing, self._transitions(last_ns, ticks))
        elif stop_ns is not None and stop_ns < min(decided_ns, deadline_ns + 1):
            self._stop(growing, stop_ns, Reason(Cause.MARKED))
        elif decided_ns > deadline_ns:
            self._close(growing, Reason(Cause.NO_TICK))
            self._from_ns, self._from_is_instant = last_ns + 1, False
        else:
            return False
        return True

    def _transitions(self, last_ns: int, ticks: Times) -> Transitions:
        return transitions(self._alignment, self._contract, last_ns, ticks, self._ticks.longest_ns)

    def _append(self, growing: _Growing, found: Transitions) -> None:
        """Append the transitions up to the first that ends the episode."""
        signalled = (found.terminated | found.truncated) & ~found.too_long
        ended = signalled
        if not growing.follows_label:  # else a label is of the episode before
            ended = signalled | (found.labelled & ~found.too_long)
        halts = ended | ~found.usable
        stop = int(np.argmax(halts)) if halts.any() else len(halts)
        count = stop + int(stop < len(halts) and found.usable[stop])
        if count:
            self._append_rows(growing, found, count)
        self._look_at(more=stop == len(halts))
        if stop == len(halts):
            return
        if growing.length == 0 and (idle := self._idle(found)):
            self._close_idle(found, idle)
            return
        tick_ns = int(found.ticks_ns[stop])
        self._end(growing, found, stop, is_signalled=bool(signalled[stop]))
        self._from_ns, self._from_is_instant = tick_ns, True
        if found.too_long[stop]:
            self._from_ns, self._from_is_instant = growing.last_ns + 1, False
        if signalled[stop]:
            self._ended_ns = tick_ns
            self._alignment.forget_episode(tick_ns)

    def _end(
        self, growing: _Growing, found: Transitions, stop: int, *, is_signalled: bool
    ) -> None:
        """End the episode with, or before, a transition: for what it lacks, or what was said."""
        if not found.usable[stop]:
            lack = found.lack(stop)
            is_counted = growing.length > 0 and not growing.follows_label
            self.split_nonfinite += lack.cause is Cause.NOT_FINITE and is_counted
            self._close(growing, lack)
        elif is_signalled:
            self._close(growing, None, bool(found.terminated[stop]), bool(found.truncated[stop]))
        else:
            self._close(growing, Reason(Cause.LABELLED))
            self._ended_ns = int(found.ticks_ns[stop])
            if not self._alignment.window.has_opening:
                self._labelled_ns = self._ended_ns

    def _idle(self, found: Transitions) -> int:
        """How many of the first transitions would each begin an episode and end it at once."""
        idle = found.idle() & self._may_begin(found.ticks_ns)
        return len(idle) if idle.all() else int(np.argmin(idle))

    def _close_idle(self, found: Transitions, count: int) -> None:
        """Begin and end so many episodes without a transition, one at each tick, at once."""
        self._growing = None
        for lack in found.lacks(count):
            self._wait(lack)
        self._from_ns, self._from_is_instant = int(found.ticks_ns[count - 1]), True
        self._look_at(more=count == len(found.ticks_ns))

    def _append_rows(self, growing: _Growing, found: Transitions, count: int) -> None:
        if growing.follows_label:
            growing.length += count
            growing.last_ns = int(found.ticks_ns[count - 1])
            return
        if growing.length == 0:
            self.labelled.settle(growing.start_ns)
            self._note_skipped(growing.start_ns)
            for topic, ages in growing.first_ages_ns.items():
                self._on_ages("observation", topic, ages)
        for kind, column in (("observation", found.observed), ("action", found.commanded)):
            for topic, ages in column.ages_ns.items():
                self._on_ages(kind, topic, ages[:count])
        if self._ticks.are_on_grid:
            span = int(found.ticks_ns[count - 1]) - growing.last_ns
            self.dropped_ticks += max(-(-span // self._contract.period_ns) - count, 0)
        growing.ticks_ns.append(found.ticks_ns[:count])
        growing.observations.append(found.observed.values[:count])
        growing.actions.append(found.commanded.values[:count])
        if found.rewards is not None:
            growing.rewards.append(found.rewards[0][:count])
        if found.interventions is not None:
            growing.interventions.append(found.interventions[:count])
        growing.length += count
        growing.last_ns = int(found.ticks_ns[count - 1])

    def _stop(self, growing: _Growing, now_ns: int, reason: Reason) -> None:
        """End the episode at ``now_ns``, within a period."""
        end_ns = self._alignment.next_end(growing.last_ns)
        if end_ns is not None and end_ns <= now_ns:
            # It stopped within the very period in which the task ended.
            self._append(growing, self._transitions(growing.last_ns, np.array([now_ns])))
        if self._growing is not None:
            self._close(growing, reason)
            self._from_ns, self._from_is_instant = now_ns, True

    def _close(
        self,
        growing: _Growing,
        lack: Reason | None,
        terminated: bool = False,
        truncated: bool = True,
    ) -> None:
        """End the episode: for what is lacking, or because a signal says so."""
        self._growing = None
        if lack is not None and growing.length == 0:
            self._wait(lack)
            return
        self._idle_since_ns = growing.last_ns
        is_labelled = lack is not None and lack.cause is Cause.LABELLED
        self._idle_reasons = [Reason(Cause.BETWEEN) if lack is None or is_labelled else lack]
        if growing.follows_label:
            reason = (Reason(Cause.AFTER_LABEL),)
            self.skipped.append(SkippedSpan(growing.start_ns, growing.last_ns, reason))
            return
        signal = Reason(Cause.TERMINATED if terminated else Cause.TRUNCATED)
        self.labelled.add(growing.recorded(terminated, truncated, lack or signal))

    def _wait_for(self, observed: AlignedRows, is_open: Flags, count: int) -> None:
        """Note why no episode began at the first ``count`` candidates."""
        topics = list(observed.missing)
        lacks = np.stack([observed.missing[topic][:count] for topic in topics], axis=1)
        codes = np.where(is_open[:count], lacks @ (1 << np.arange(len(topics))), -1)
        different, firsts = np.unique(codes, return_index=True)
        for code in different[np.argsort(firsts)].tolist():
            missing = [topic for bit, topic in enumerate(topics) if code >> bit & 1]
            if code < 0:
                self._wait(Reason(Cause.BETWEEN))
            elif missing:
                self._wait(Reason(Cause.MISSING, tuple(missing)))
            else:
                self._wait(Reason(Cause.NONE_FINITE))

    def _wait(self, reason: Reason) -> None:
        if not any(known.covers(reason) for known in self._idle_reasons):
            self._idle_reasons.append(reason)

    def _note_skipped(self, until_ns: int) -> None:
        if self._idle_since_ns is not None and until_ns > self._idle_since_ns:
            reasons = tuple(self._idle_reasons) or (Reason(Cause.RECORDING_STOPPED),)
            self.skipped.append(SkippedSpan(self._idle_since_ns, until_ns, reasons))
