"""Lines of a draft's ``fields``: which numbers of a topic are used, and in what form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dql_ros.contract import Element, FieldSelection
from dql_ros.contract.field import selects_by_name, split_path
from dql_ros.tools.contract_draft.choices import outward
from dql_ros.tools.contract_draft.field_kinds import (
    TOLD_PART,
    WISHED_PART,
    Facts,
    code_of,
    has_part,
    is_of_machine,
    is_quaternion_array,
    reports_command,
    stops_with_zero,
    unit_at,
)
from dql_ros.tools.contract_draft.topic_parts import BOOKKEEPING, RARELY_USED
from dql_ros.tools.contract_draft.topic_profile import TopicProfile
from dql_ros.tools.topic_numbers import (
    MAX_ARRAY,
    NumberFacts,
    TopicNumbers,
    field_names,
    quaternion_paths,
)

# Turns whose axis is nearer to z than this are turns about z.
UPRIGHT = 1e-6
# What is no number more often than this is not proposed.
MOSTLY = 0.1
# Arrays of so many numbers are written as indices, longer ones as a slice.
SHORT = 8
# The arrays of joint commands, in the order in which a message is taken for a command of one.
QUANTITIES = ("positions", "position", "velocities", "velocity", "effort", "accelerations")
# Of a trajectory's list of points, the one that is commanded.
FIRST_POINT = "points.0."
# Of what few messages have, so many arrays are named.
MOST_RARE = 6
# Fewer values than this between the smallest and the largest are too few.
TOLD_APART = 1000


@dataclass(frozen=True)
class FieldLine:
    """One entry of ``fields``.

    Attributes:
        entry: Its keys, in order.
        comment: What is said of it.
        used: Whether it is an entry, or a proposal in a comment.
        is_still: Whether it is none only because it never changed.
    """

    entry: dict[str, Any]
    comment: str = ""
    used: bool = True
    is_still: bool = False

    def selection(self) -> FieldSelection:
        """The entry as the contract has it."""
        return FieldSelection.model_validate(self.entry)


def observed_lines(topic: TopicProfile, *, latched: bool) -> list[FieldLine]:
    """Propose what of a topic is observed: of a latched one also what is constant."""
    entries = list(_entries(topic, _numbers(topic), command=False))
    lines = [_observed(topic, line, facts, latched=latched) for line, facts in entries]
    if not latched and is_of_machine(
        topic, [(line.entry["path"], facts) for line, facts in entries]
    ):
        lines = [
            replace(line, used=False, comment=_join("of a state machine", line.comment))
            for line in lines
        ]
    if not any(line.used for line in lines):
        # Nothing moved in this recording; the numbers are the topic's all the same.
        lines = [replace(line, used=line.is_still) for line in lines]
    return lines + _left_lines(topic)


def commanded_lines(topic: TopicProfile) -> list[FieldLine]:
    """Propose what of a topic's messages is the action, with bounds from the recording."""
    entries = list(_entries(topic, _numbers(topic), command=True))
    if reports_command([line.entry["path"] for line, _ in entries]):
        entries = [each for each in entries if has_part(each[0].entry["path"], WISHED_PART)]
    quantity = _commanded_quantity(topic, entries)
    lines = [_commanded(topic, line, facts, quantity) for line, facts in entries]
    if any(line.used and "constant" not in line.entry for line in lines):
        return lines + _left_lines(topic)
    # Nothing but constants: those that are not 0 are taken, with bounds that are a guess.
    free = [
        (line, facts)
        for line, facts in entries
        if not code_of(topic, line.entry["path"], facts)
        and not _unlearnt(topic, line, facts, quantity)
    ]
    has_other = any(_is_nonzero(facts) for _, facts in free)
    return [
        _bounded(line, facts, "never changed, so the bounds are a guess")
        if (line, facts) in free and (_is_nonzero(facts) or not has_other)
        else _commanded(topic, line, facts, quantity)
        for line, facts in entries
    ] + _left_lines(topic)


def long_arrays(topic: TopicProfile) -> dict[str, int]:
    """Arrays that are too long to be proposed, with the elements that all messages have."""
    lengths = {} if topic.numbers is None else topic.numbers.lengths
    return {
        path: min(counts)
        for path, counts in lengths.items()
        if min(counts) > MAX_ARRAY
        and not any(BOOKKEEPING.fullmatch(part) for part in field_names(path))
    }


def _left_lines(topic: TopicProfile) -> list[FieldLine]:
    """What is not proposed, since it is too long or too rare."""
    return [*_rare_lines(topic), *_long_lines(topic)]


def _rare_lines(topic: TopicProfile) -> Iterator[FieldLine]:
    """Yield what no stream of the topic has: whole arrays, and joints."""
    rare: dict[tuple[str, str], list[Element]] = {}
    known = {element.path for element in topic.useful}
    for element, how_rare in topic.rare.items():
        if isinstance(element.key, str) or element.path not in known:
            rare.setdefault((element.path, how_rare), []).append(element)
    for (path, how_rare), elements in list(rare.items())[:MOST_RARE]:
        keys = [element.key for element in elements]
        entry = {"path": path} | ({} if keys[0] is None else _keys(keys))
        yield FieldLine(entry, how_rare, used=False)


def _long_lines(topic: TopicProfile) -> list[FieldLine]:
    return [
        FieldLine(
            {"path": path, "slice": f"0:{count}"},
            f"{count} elements, and init proposes arrays of up to {MAX_ARRAY}",
            used=False,
        )
        for path, count in long_arrays(topic).items()
    ]


def nonfinite_count(topic: TopicProfile, lines: list[FieldLine]) -> int:
    """How many numbers that the lines take are NaN or infinite in the recording."""
    facts = topic.useful
    elements = [e for line in lines if line.used for e in line.selection().read_elements]
    return sum(facts[element].nonfinite for element in elements if element in facts)


def _numbers(topic: TopicProfile) -> TopicNumbers:
    if topic.numbers is None:
        raise ValueError(f"{topic.name} cannot be decoded")
    return topic.numbers


def _entries(
    topic: TopicProfile, numbers: TopicNumbers, *, command: bool
) -> Iterator[tuple[FieldLine, Facts]]:
    """Yield an entry for each quaternion, each array and each other number, with its facts."""
    common = topic.useful
    turns = _rotations(numbers, common)
    if command:  # a turn that never changes is sent as it is
        turns = {path for path in turns if not _is_constant(path, common)}
    arrays: dict[str, dict[Element, NumberFacts]] = {}
    for element, fact in common.items():
        owner = element.path.rpartition(".")[0]
        if element.key is not None:
            arrays.setdefault(element.path, {})[element] = fact
        elif owner in turns:
            arrays.setdefault(owner, {})[element] = fact
        else:
            arrays[element.path] = {element: fact}
    for path, facts in arrays.items():
        if path in turns:
            yield _rotation(path, numbers, command=command), facts
            continue
        unit = unit_at(topic.typestore, topic.msgtype, path) if topic.typestore else ""
        if is_quaternion_array(topic, path, facts):
            keys = [element.key for element in facts]
            entry = {"path": path, **_keys(keys), "rotation": "6d", "quaternion_order": "wxyz"}
            yield FieldLine(entry), facts
            continue
        can_turn = unit == "rad" and not command
        for group in _by_movement(facts, can_turn=can_turn):
            keys = [element.key for element in group]
            entry = {"path": path} | ({} if keys[0] is None else _keys(keys))
            is_turning = can_turn and next(iter(group.values())).wraps_around
            yield _plain(entry, unit, _partial(numbers, path), turns=is_turning), group


def _by_movement(facts: Facts, *, can_turn: bool) -> Iterator[Facts]:
    """Yield an array's elements: that moved, that wrapped around, that had one value each.

    Args:
        facts: What the elements were.
        can_turn: Whether they are angles, which may wrap around.
    """
    groups: dict[tuple[bool, float | None], dict[Element, NumberFacts]] = {(False, None): {}}
    for element, fact in facts.items():
        is_turning = can_turn and fact.wraps_around
        key = is_turning, fact.low if fact.is_constant else None
        groups.setdefault(key, {})[element] = fact
    yield from filter(None, groups.values())


def _plain(entry: dict[str, Any], unit: str, remark: str, *, turns: bool) -> FieldLine:
    """The line of numbers that are no quaternion, some of which are angles that wrap around."""
    if turns:
        return FieldLine(entry | {"rotation": "cos_sin"}, _join("jumps by a full turn", remark))
    return FieldLine(entry | ({"unit": unit} if unit else {}), remark)


def _rotations(numbers: TopicNumbers, common: Facts) -> set[str]:
    paths = {element.path: element for element in common if element.key is None}
    return {
        path
        for path in quaternion_paths(paths)
        if path in numbers.quaternions and numbers.quaternions[path].is_rotation
    }


def _is_constant(path: str, common: Facts) -> bool:
    return all(common[Element(f"{path}.{axis}", None)].is_constant for axis in "xyzw")


def _rotation(path: str, numbers: TopicNumbers, *, command: bool) -> FieldLine:
    facts = numbers.quaternions[path]
    if facts.tilt > UPRIGHT or command:
        return FieldLine({"path": path, "rotation": "6d"})
    if facts.turns:
        return FieldLine({"path": path, "rotation": "6d"}, "yaw would jump by a full turn")
    return FieldLine({"path": path, "rotation": "yaw"}, "all turns are about z")


def _keys(keys: list[str | int | None]) -> dict[str, Any]:
    if isinstance(keys[0], str):
        return {"joints": keys}
    if keys == list(range(len(keys))) and len(keys) > SHORT:
        return {"slice": f"0:{len(keys)}"}
    return {"indices": keys}


def _partial(numbers: TopicNumbers, path: str) -> str:
    """Say that an array without names is not always of the same length."""
    lengths = numbers.lengths.get(path, set()) - {0}
    if len(lengths) > 1 and not any(numbers.names.get(path, ())):
        return f"has {min(lengths)} to {max(lengths)} elements"
    return ""


def _observed(topic: TopicProfile, line: FieldLine, facts: Facts, *, latched: bool) -> FieldLine:
    """Leave out what shows nothing, or nothing of the robot."""
    span = "" if "rotation" in line.entry else _range(facts)
    line = FieldLine(line.entry, _join(line.comment, span), line.used)
    path = line.entry["path"]
    if any(fact.nonfinite > MOSTLY * fact.messages for fact in facts.values()):
        reason = "often no number"
    elif _numbers(topic).changes_place(path):
        reason = "an element of a list, whose place may change"
    elif not latched and has_part(path, TOLD_PART):
        reason = "a set-point or an error, not measured"
    elif code := code_of(topic, line.entry["path"], facts):
        reason = code
    elif field_names(path)[-1] in RARELY_USED:
        reason = "rarely of use"
    elif not latched and all(fact.is_constant for fact in facts.values()):
        return FieldLine(
            line.entry, _join("never changed", line.comment), used=False, is_still=True
        )
    else:
        return _with_offset(line, facts, counts_from_first=not latched)
    return FieldLine(line.entry, _join(reason, line.comment), used=False)


def _with_offset(line: FieldLine, facts: Facts, *, counts_from_first: bool) -> FieldLine:
    """Count from another zero what float32 would blur, far from 0 and hardly moving."""
    if "rotation" in line.entry or not any(map(_is_blurred, facts.values())):
        return line
    lows = [float(f"{fact.low:.6g}") for fact in facts.values()]
    offset = "first" if counts_from_first else _one_or_all(lows)
    remark = f"else float32 has steps of {max(map(_resolution, facts.values())):.2g} there"
    return replace(
        line, entry={**line.entry, "offset": offset}, comment=_join(line.comment, remark)
    )


def _is_blurred(fact: NumberFacts) -> bool:
    """Whether float32 tells fewer than so many values of a number apart."""
    return 0 < fact.high - fact.low < TOLD_APART * _resolution(fact)


def _resolution(fact: NumberFacts) -> float:
    largest = min(max(abs(fact.low), abs(fact.high)), float(np.finfo(np.float32).max) / 2)
    return float(np.spacing(np.float32(largest)))


def _commanded_quantity(topic: TopicProfile, entries: list[tuple[FieldLine, Facts]]) -> str:
    """The one of a joint command's arrays that is learnt; empty for other messages."""
    if topic.msgtype.startswith("px4_msgs/"):
        return ""  # it has arrays of x, y and z, any of which may be not a number
    finite = [(line, facts) for line, facts in entries if _mostly_finite(facts)]
    names = {field_names(line.entry["path"])[-1]: facts for line, facts in reversed(finite)}
    known = [each for each in QUANTITIES if each in names]
    moving = [each for each in known if not all(f.is_constant for f in names[each].values())]
    return next(iter(moving or known), "")


def _mostly_finite(facts: Facts) -> bool:
    return all(fact.nonfinite <= MOSTLY * fact.messages for fact in facts.values())


def _commanded(topic: TopicProfile, line: FieldLine, facts: Facts, quantity: str) -> FieldLine:
    path, fact = line.entry["path"], next(iter(facts.values()))
    if reason := _unlearnt(topic, line, facts, quantity):
        return FieldLine(line.entry, _join(reason, _range(facts)), used=False)
    can_stop = stops_with_zero(topic, path, line.entry.get("unit", ""), facts)
    if fact.is_constant and "rotation" not in line.entry and can_stop and fact.low:
        remark = "never changed, but a constant would be sent with a stop, too"
        return _bounded(line, facts, remark, can_stop=True)
    if fact.is_constant and "rotation" not in line.entry:
        return FieldLine({**line.entry, "constant": fact.low}, f"always {fact.low:.4g}")
    if code := code_of(topic, line.entry["path"], facts):
        return FieldLine(line.entry, _join(code, _range(facts)), used=False)
    is_point = path.startswith(FIRST_POINT)
    remark = "only the first point of a trajectory is learnt" if is_point else ""
    return _bounded(line, facts, remark, can_stop=can_stop)


def _unlearnt(topic: TopicProfile, line: FieldLine, facts: Facts, quantity: str) -> str:
    """Why a number of a command is neither learnt nor sent; empty if it is."""
    path = line.entry["path"]
    below = path.removeprefix(FIRST_POINT)
    if below == path:
        may_move = _numbers(topic).changes_place(path)
    else:
        may_move = any(isinstance(step, int) for step in split_path(below))
    if may_move or selects_by_name(below):
        return "an element of a list, whose place may change"
    is_array = next(iter(facts)).key is not None
    if is_array and quantity and field_names(path)[-1] != quantity:
        return "not sent"
    return "" if _mostly_finite(facts) else "often no number, and is sent as 0: CHECK"


def _is_nonzero(facts: Facts) -> bool:
    return any(fact.low != 0 or fact.high != 0 for fact in facts.values())


def _bounded(line: FieldLine, facts: Facts, remark: str, *, can_stop: bool = False) -> FieldLine:
    """Give a field the bounds of what was recorded; and of 0, if that is how the robot stops."""
    if "rotation" in line.entry:
        return line
    if not all(fact.low <= fact.high for fact in facts.values()):
        return FieldLine(line.entry, "never a finite number", used=False)
    line = _with_offset(line, facts, counts_from_first=False)
    offset = line.entry.get("offset", 0.0)
    offsets = offset if isinstance(offset, list) else [offset] * len(facts)
    stop = [0.0] if can_stop and not any(offsets) else []
    bounds = [
        outward(min([fact.low - zero, *stop]), max([fact.high - zero, *stop]))
        for fact, zero in zip(facts.values(), offsets, strict=True)
    ]
    low, high = ([pair[side] for pair in bounds] for side in (0, 1))
    entry = {**line.entry, "low": _one_or_all(low), "high": _one_or_all(high)}
    return FieldLine(entry, _join(remark, line.comment, _range(facts)))


def _one_or_all(values: list[float]) -> float | list[float]:
    return values[0] if len(set(values)) == 1 else values


def _range(facts: Facts) -> str:
    finite = [fact for fact in facts.values() if fact.low <= fact.high]
    if not finite:
        return "never a finite number"
    low, high = min(fact.low for fact in finite), max(fact.high for fact in finite)
    bad = sum(fact.nonfinite for fact in facts.values())
    text = f"was {low:.4g}" if low == high else f"was {_span(low, high)}"
    return _join(text, f"{bad} times no number" if bad else "")


def _span(low: float, high: float) -> str:
    """Both ends, with as many digits as tell them apart."""
    texts = ((f"{low:.{digits}g}", f"{high:.{digits}g}") for digits in (4, 6, 8, 10, 12, 17))
    return " to ".join(next((pair for pair in texts if pair[0] != pair[1]), (f"{low}", f"{high}")))


def _join(*remarks: str) -> str:
    return "; ".join(remark for remark in remarks if remark)
