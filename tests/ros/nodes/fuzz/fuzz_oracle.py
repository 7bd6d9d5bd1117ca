"""Judges a policy node from outside: what it was sent, what it commanded, and when. Knows no ROS.

All times are seconds of one steady clock. What cannot be known from outside, as whether a message
that was under way had been heard, is decided in the node's favour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby, pairwise

# What an ordinary end may take, with a policy that is not stuck.
END_S = 10.0
# Two ticks closer than this share of a period were not both on time.
BURST_SHARE = 0.3
_TOLERANCE = 1e-5


class Kind(str, Enum):
    """What was done to the node."""

    MESSAGE = "message"
    STOP = "stop"
    RELEASE = "release"
    RESET = "reset"
    PAUSE = "pause"
    RESUME = "resume"
    TRANSITION = "transition"
    CLOCK_JUMP = "clock jump"
    SECOND_CLOCK = "second clock"
    RIVAL = "rival"
    FREEZE = "SIGSTOP"
    THAW = "SIGCONT"
    END = "signal"
    ENDED = "ended"
    OTHER = "other"


class Worth(str, Enum):
    """What a message allows: to act on it; nothing, being of no use; or no action at all."""

    VALID = "valid"
    USELESS = "useless"
    POISON = "poison"


@dataclass
class Event:
    """Something that was done to the node.

    Attributes:
        at_s: When, taken before it was done.
        kind: What.
        detail: More of it, for people; of a transition its name.
        stream: Of a message: its topic.
        worth: Of a message.
        age_s: Of a message: how old its stamp was.
        answered_s: Of a request: when its answer came; of a rival: when it was gone.
        success: Of a request: the answer; ``None`` where there was none.
    """

    at_s: float
    kind: Kind
    detail: str = ""
    stream: str = ""
    worth: Worth = Worth.VALID
    age_s: float = 0.0
    answered_s: float = math.inf
    success: bool | None = None


@dataclass(frozen=True)
class Command:
    """A command as it was seen on the wire.

    Attributes:
        sent_s: When it was published, by the stamp that the middleware gave it.
        number: Counts the commands of its publisher from 1.
        values: Shape (A,).
        stamp_s: Its header's stamp on the steady clock; on the simulated one in simulated time.
    """

    sent_s: float
    number: int
    values: tuple[float, ...]
    stamp_s: float


@dataclass(frozen=True)
class Rules:
    """What the node promised.

    Attributes:
        safe: The safe command, shape (A,).
        low: Smallest command, shape (A,).
        high: Largest command, shape (A,).
        max_step: Largest change from one command to the next, shape (A,).
        period_s: Control period.
        max_age_s: Largest age, by stream; a latched one has none.
        allowance_s: What delivery and a busy machine may take.
        is_simulated: Whether stamps are of a simulated clock.
    """

    safe: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    max_step: tuple[float, ...]
    period_s: float
    max_age_s: Mapping[str, float]
    allowance_s: float
    is_simulated: bool = False


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept: which, when, and what was seen."""

    at_s: float
    rule: str
    what: str


@dataclass(frozen=True)
class Seen:
    """A command and what can be told of it.

    Attributes:
        command: The command.
        before: The one sent before it, if that is known.
        is_safe: Whether it is the safe command.
        acts: Whether it is neither that nor a step of the shortest way to it.
    """

    command: Command
    before: Command | None
    is_safe: bool
    acts: bool


@dataclass
class Life:
    """All that was done to one process and all that it commanded, in the order of time."""

    events: Sequence[Event]
    commands: Sequence[Command]
    rules: Rules
    seen: list[Seen] = field(init=False)

    def __post_init__(self) -> None:
        self.events = sorted(self.events, key=lambda event: event.at_s)
        self.commands = sorted(self.commands, key=lambda command: command.sent_s)
        self.seen = list(_look_at(self.commands, self.rules))

    def of(self, *kinds: Kind) -> list[Event]:
        """Return the events of these kinds."""
        return [event for event in self.events if event.kind in kinds]

    def obeyed_from(self, at_s: float) -> float:
        """When at the latest the node obeys what was sent at ``at_s``; later if it was frozen."""
        for freeze, thaw in self.frozen():
            if freeze <= at_s + self.rules.allowance_s and at_s <= thaw:
                at_s = thaw
        return at_s + self.rules.allowance_s

    def frozen(self) -> list[tuple[float, float]]:
        """Return from when to when the process was stopped by SIGSTOP."""
        begun = [event.at_s for event in self.of(Kind.FREEZE)]
        ended = [event.at_s for event in self.of(Kind.THAW)]
        return list(zip(begun, ended, strict=False))

    def asked_for(self, since_s: float, until_s: float, kinds: Sequence[Kind]) -> bool:
        """Whether such an event, or a request of it under way, had its effect in between."""
        return any(
            event.at_s <= until_s
            and (self.obeyed_from(event.at_s) >= since_s or _pending(event, since_s))
            for event in self.of(*kinds)
        )


def judge(life: Life) -> list[Violation]:
    """Return what the node did that it must not, in the order of time."""
    found = [violation for rule in RULES for violation in rule(life)]
    return sorted(found, key=lambda violation: violation.at_s)


def bounds_are_kept(life: Life) -> Iterator[Violation]:
    """Every command has its numbers, all finite and within their bounds."""
    rules = life.rules
    for command in life.commands:
        values = command.values
        if len(values) != len(rules.safe):
            yield Violation(command.sent_s, "bounds", f"{len(values)} numbers: {values}")
            continue
        for value, low, high in zip(values, rules.low, rules.high, strict=True):
            if not low - _TOLERANCE <= value <= high + _TOLERANCE:
                yield Violation(command.sent_s, "bounds", f"{value} in {values}")


def slew_is_kept(life: Life) -> Iterator[Violation]:
    """No command is far from the one before, but for the safe one where the robot is to stop."""
    abrupt, stopped = (Kind.STOP, Kind.RESET, Kind.TRANSITION, Kind.RIVAL, Kind.END), stops(life)
    for seen in life.seen:
        now, before = seen.command, seen.before
        if before is None:
            continue
        steps = [abs(a - b) for a, b in zip(now.values, before.values, strict=False)]
        if all(s <= m + _TOLERANCE for s, m in zip(steps, life.rules.max_step, strict=False)):
            continue
        is_stopped = any(begun <= now.sent_s and before.sent_s <= e for begun, e in stopped)
        if seen.is_safe and (is_stopped or life.asked_for(before.sent_s, now.sent_s, abrupt)):
            continue
        yield Violation(now.sent_s, "slew", f"from {before.values} to {now.values}")


def a_stop_holds(life: Life) -> Iterator[Violation]:
    """From a stop until it is reset there is nothing but the safe command."""
    for begun_s, ended_s in stops(life):
        obeyed_s = life.obeyed_from(begun_s)
        for seen in life.seen:
            if obeyed_s < seen.command.sent_s < ended_s and not seen.is_safe:
                after_s = seen.command.sent_s - begun_s
                what = f"{seen.command.values} {after_s:.3f} s after the stop"
                yield Violation(seen.command.sent_s, "stop", what)
                break


def a_pause_holds(life: Life) -> Iterator[Violation]:
    """From a pause that was granted until resume is called, the policy does not act."""
    resumed = [event.at_s for event in life.of(Kind.RESUME)]
    for pause in life.of(Kind.PAUSE):
        # A resume that was called before may be granted after it.
        ended_s = _next_after(pause.at_s - 1.0, resumed)
        if pause.success and pause.answered_s < ended_s:
            obeyed_s = life.obeyed_from(pause.answered_s) + life.rules.period_s
            yield from _acts_between(life, obeyed_s, ended_s, "pause", "though it was paused")


def data_are_fresh(life: Life) -> Iterator[Violation]:
    """Nothing is decided from data older than the limit, by receipt as by stamp."""
    rules = life.rules
    jumps = [event.at_s for event in life.of(Kind.CLOCK_JUMP)]
    slack_s = rules.period_s + rules.allowance_s
    for stream, max_age_s in rules.max_age_s.items():
        valid = [e for e in _messages(life, stream) if e.worth is Worth.VALID]
        for seen in life.seen:
            sent_s = seen.command.sent_s
            # What was stamped before the clock jumped is no longer known to be young.
            jumped_s = max((at_s for at_s in jumps if at_s < sent_s - slack_s), default=-math.inf)
            born = [
                event.at_s - max(0.0, event.age_s)
                for event in valid
                if jumped_s <= event.at_s <= sent_s
            ]
            age_s = sent_s - max(born, default=-math.inf)
            if seen.acts and age_s > max_age_s + slack_s:
                what = f"{seen.command.values} from '{stream}' of {age_s:.3f} s ago"
                yield Violation(sent_s, "age", what)
                break


def data_are_sound(life: Life) -> Iterator[Violation]:
    """Nothing is decided while the newest message of a stream forbids it."""
    for stream in sorted({event.stream for event in life.of(Kind.MESSAGE)}):
        heard = [e for e in _messages(life, stream) if e.worth is not Worth.USELESS]
        for worth, group in groupby(heard, key=lambda event: event.worth):
            run = list(group)
            if worth is Worth.POISON:
                since_s = life.obeyed_from(run[0].at_s) + life.rules.period_s
                until_s = _next_after(run[-1].at_s, [each.at_s for each in heard])
                what = f"though '{stream}' said {run[0].detail}"
                yield from _acts_between(life, since_s, until_s, "soundness", what)


def the_last_command_is_safe(life: Life) -> Iterator[Violation]:
    """Once it is deactivated or has ended, the node has sent the safe command last."""
    begins = [e.at_s for e in life.of(Kind.TRANSITION) if e.detail == "activate"]
    for event in life.of(Kind.TRANSITION, Kind.ENDED):
        if event.kind is Kind.TRANSITION and not (event.detail in _QUIET and event.success):
            continue
        done_s = event.at_s if event.kind is Kind.ENDED else event.answered_s
        # An activation that is asked for meanwhile may follow at once.
        until_s = _next_after(event.at_s, begins)
        since_s = done_s + life.rules.allowance_s
        if since_s >= until_s:
            continue
        until = [seen for seen in life.seen if seen.command.sent_s <= until_s]
        what = f"the last command is not safe after {event.kind.value} {event.detail}"
        if until and not until[-1].is_safe:
            yield Violation(until[-1].command.sent_s, "end", f"{until[-1].command.values}: {what}")


def it_ends_when_told(life: Life) -> Iterator[Violation]:
    """It ends on a signal, in bounded time, without complaint, and not by itself."""
    told = [event.at_s for event in life.of(Kind.END)]
    for ended in life.of(Kind.ENDED):
        if not told or ended.at_s < told[0]:
            yield Violation(ended.at_s, "end", f"it ended by itself: {ended.detail}")
        elif ended.at_s - life.obeyed_from(told[0]) > END_S:
            yield Violation(ended.at_s, "end", f"it took {ended.at_s - told[0]:.1f} s to end")
        elif not ended.success:
            yield Violation(ended.at_s, "end", ended.detail)


def no_burst_follows_a_standstill(life: Life) -> Iterator[Violation]:
    """After SIGCONT commands come a period apart: what was due meanwhile is not made up for."""
    asked = (Kind.STOP, Kind.RELEASE, *_REQUESTS)
    period_s = life.rules.period_s
    for begun_s, ended_s in life.frozen():
        after = [s.command for s in life.seen if ended_s <= s.command.sent_s < ended_s + 0.5]
        for one, other in pairwise(after[:4]):
            gap_s = other.sent_s - one.sent_s
            if other.number != one.number + 1 or gap_s >= BURST_SHARE * period_s:
                continue
            if not life.asked_for(begun_s, other.sent_s, asked):
                what = f"{gap_s * 1e3:.1f} ms after the one before, after SIGCONT"
                yield Violation(other.sent_s, "burst", what)


def stamps_are_sane(life: Life) -> Iterator[Violation]:
    """Commands are stamped when they are decided, and time does not go back."""
    for seen in life.seen:
        now, before = seen.command, seen.before
        late_s = now.sent_s - now.stamp_s
        if not life.rules.is_simulated and not _is_on_time(life, now):
            yield Violation(now.sent_s, "stamp", f"stamped {late_s:.3f} s before it was sent")
        if before is None or now.stamp_s >= before.stamp_s:
            continue
        if not life.asked_for(before.sent_s, now.sent_s, _CLOCKS):
            back_s = before.stamp_s - now.stamp_s
            yield Violation(now.sent_s, "stamp", f"{back_s:.3f} s before the one before")


RULES: tuple[Callable[[Life], Iterator[Violation]], ...] = (
    bounds_are_kept,
    slew_is_kept,
    a_stop_holds,
    a_pause_holds,
    data_are_fresh,
    data_are_sound,
    the_last_command_is_safe,
    it_ends_when_told,
    no_burst_follows_a_standstill,
    stamps_are_sane,
)

_QUIET = {"deactivate", "cleanup", "shutdown"}

_CLOCKS = (Kind.CLOCK_JUMP, Kind.SECOND_CLOCK)

# What has an effect until it is answered, or is over.
_REQUESTS = (
    Kind.TRANSITION,
    Kind.RESET,
    Kind.PAUSE,
    Kind.RESUME,
    Kind.RIVAL,
    Kind.END,
)


def stops(life: Life) -> list[tuple[float, float]]:
    """Return from when to when the node was stopped: until the call of the reset that counted."""
    found: list[tuple[float, float]] = []
    resets = [event for event in life.of(Kind.RESET) if event.success is not False]
    releases = [event.at_s for event in life.of(Kind.RELEASE)]
    for stop in life.of(Kind.STOP):
        if found and stop.at_s < found[-1][1]:
            continue
        ends = [
            max(reset.at_s, released_s)
            for reset in resets
            for released_s in releases
            if stop.at_s <= released_s <= reset.answered_s
        ]
        found.append((stop.at_s, min(ends, default=math.inf)))
    return found


def _is_on_time(life: Life, command: Command) -> bool:
    """Whether it was sent within a period of its stamp, but for the time of a suspension."""
    rules, late_s = life.rules, command.sent_s - command.stamp_s
    is_thawed = any(
        command.stamp_s <= ended_s and begun_s <= command.sent_s
        for begun_s, ended_s in life.frozen()
    )
    return is_thawed or -rules.allowance_s <= late_s <= rules.period_s + rules.allowance_s


def _look_at(commands: Sequence[Command], rules: Rules) -> Iterator[Seen]:
    before: Command | None = None
    for command in commands:
        # A new publisher begins at the safe command; what a lost one was is not known.
        known = before
        if command.number == 1:
            known = Command(command.sent_s, 0, rules.safe, command.stamp_s)
        elif before is not None and command.number != before.number + 1:
            known = None
        is_safe = _alike(command.values, rules.safe)
        acts = known is not None and not is_safe and not _retreats(known, command, rules)
        yield Seen(command, known, is_safe, acts)
        before = command


def _retreats(before: Command, command: Command, rules: Rules) -> bool:
    """Whether it is the nearest to the safe command that the slew limit allows."""
    way = tuple(
        min(max(safe, last - step), last + step)
        for safe, last, step in zip(rules.safe, before.values, rules.max_step, strict=False)
    )
    return _alike(command.values, way)


def _alike(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= _TOLERANCE for a, b in zip(one, other, strict=True)
    )


def _next_after(at_s: float, times_s: Sequence[float]) -> float:
    return min((each for each in times_s if each > at_s), default=math.inf)


def _messages(life: Life, stream: str) -> list[Event]:
    return [event for event in life.of(Kind.MESSAGE) if event.stream == stream]


def _acts_between(
    life: Life, since_s: float, until_s: float, rule: str, what: str
) -> Iterator[Violation]:
    for seen in life.seen:
        if seen.acts and since_s < seen.command.sent_s < until_s:
            yield Violation(seen.command.sent_s, rule, f"{seen.command.values} {what}")
            return


def _pending(event: Event, at_s: float) -> bool:
    """Whether a request was still unanswered at a time; for END_S at most."""
    until_s = min(event.answered_s, event.at_s + END_S)
    return event.kind in _REQUESTS and event.at_s <= at_s < until_s
