"""Which numbers of a topic come together: in all of its messages, or in those of one publisher.

An arm and a gripper may share ``/joint_states``, and of two drivers one may leave velocities out.
What does not come in the same messages makes streams of its own; what is in nearly all messages
makes one, and the others are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from dql_ros.contract import Element
from dql_ros.contract.field import Named, selects_by_name, split_path
from dql_ros.convert.report.topic_statistics import Pauses
from dql_ros.tools.survey import FEW
from dql_ros.tools.topic_numbers import TopicNumbers, field_names

# Parts of a path that are about the message rather than the robot.
BOOKKEEPING = re.compile(
    r"header|layout|stamp|sec|nanosec|nsec|seq|\w*timestamp\w*|time_from_start|\w*covariance\w*"
)
# What is proposed of no robot's state, so that no message is left out for want of it.
RARELY_USED = {"effort", "accelerations"}
# Numbers that no message has in common are proposed if they are in such a share of them.
OFTEN = 0.1
# Messages without some numbers are left out if so many have them.
MOSTLY = 0.75
# A stream of its own may be rarer, such as that of a fast arm's gripper.
SELDOM = 0.01
# More publishers of one topic are not told apart.
MOST_PARTS = 8

_Group = frozenset[Element]


@dataclass(frozen=True)
class Part:
    """Numbers of a topic that come together.

    Attributes:
        elements: The numbers.
        count: How many messages have all of them.
        pauses: The pauses between such messages; ``None`` where most messages have them, so that
            the topic's own are as good.
        label: What tells it from the topic's other parts; empty for the first.
    """

    elements: frozenset[Element]
    count: int
    pauses: Pauses | None
    label: str = ""


def parts_of(
    numbers: TopicNumbers, lacking: Collection[Element] = (), *, command: bool
) -> list[Part]:
    """Divide a topic's numbers into those that come together, the most important first.

    Args:
        numbers: What its messages hold.
        lacking: Numbers that some recording has not got at all; they are in no part.
        command: Whether they are commands: one without velocities is none the worse for it.
    """
    counts, pauses = _groups(numbers, lacking)
    parts: list[Part] = []
    rest = counts
    while len(parts) < MOST_PARTS:
        paths = {element.path for part in parts for element in part.elements}
        chosen = _next(rest, numbers, paths) if parts else _first(rest, numbers, command=command)
        if not chosen:
            break
        having = [group for group in counts if chosen <= group]
        count = _count(chosen, counts)
        most = pauses[max(having, key=counts.__getitem__)]
        label = _label(chosen, parts) if parts else ""
        is_usual = count >= MOSTLY * numbers.messages
        parts.append(Part(chosen, count, None if is_usual else most, label))
        rest = _without(rest, chosen)
    return parts


def is_of_robot(element: Element) -> bool:
    """Whether a number is not about the message itself."""
    return not any(map(BOOKKEEPING.fullmatch, field_names(element.path)))


def _groups(
    numbers: TopicNumbers, lacking: Collection[Element]
) -> tuple[dict[_Group, int], dict[_Group, Pauses]]:
    """How many messages have just these numbers of the robot, and the most usual pauses."""
    counts: dict[_Group, int] = {}
    pauses: dict[_Group, Pauses] = {}
    for elements, of_these in numbers.groups.items():
        group = frozenset(each for each in elements if is_of_robot(each) and each not in lacking)
        counts[group] = counts.get(group, 0) + of_these.count
        if group not in pauses or pauses[group].count < of_these.count:
            pauses[group] = of_these
    return counts, pauses


def _without(counts: Mapping[_Group, int], taken: _Group) -> dict[_Group, int]:
    rest: dict[_Group, int] = {}
    for group, count in counts.items():
        rest[group - taken] = rest.get(group - taken, 0) + count
    return rest


def _first(counts: Mapping[_Group, int], numbers: TopicNumbers, *, command: bool) -> _Group:
    """What all messages have, or more that most have; else the most that often comes."""
    groups = [group for group in counts if group or not all(map(_is_named, numbers.facts))]
    common = frozenset.intersection(*groups) if groups else frozenset()
    if not common:
        least = OFTEN * numbers.messages
        often = {group: count * len(group) for group, count in counts.items() if count >= least}
        return max(often, key=often.__getitem__, default=frozenset())
    paths = {element.path for element in common}
    usual = {
        element
        for element in frozenset.union(*groups)
        if numbers.facts[element].messages >= MOSTLY * numbers.messages
        and _is_of_use(element, numbers)
    }
    joints = {element for element in usual if _is_named(element) and element.path in paths}
    arrays = set() if command else {element for element in usual if element.path not in paths}
    fuller = common | joints | arrays
    return fuller if _count(fuller, counts) >= MOSTLY * numbers.messages else common


def _count(elements: _Group, counts: Mapping[_Group, int]) -> int:
    """How many messages have all of some numbers."""
    return sum(count for group, count in counts.items() if elements <= group)


def _next(counts: Mapping[_Group, int], numbers: TopicNumbers, taken: Set[str]) -> _Group:
    """What else comes, if it does so all the time.

    Args:
        counts: Messages by what else they have.
        numbers: What all hold.
        taken: Paths that other parts have numbers of.
    """
    least = max(FEW, SELDOM * numbers.messages)
    streams = {
        group: count * len(group)
        for group, count in counts.items()
        if count > least
        and all(_is_apart(element, taken) for element in group)
        and any(_is_of_use(element, numbers) for element in group)
    }
    return max(streams, key=streams.__getitem__, default=frozenset())


def _is_of_use(element: Element, numbers: TopicNumbers) -> bool:
    is_rarely_used = field_names(element.path)[-1] in RARELY_USED
    return not is_rarely_used and not numbers.facts[element].is_constant


def _is_apart(element: Element, known: Set[str]) -> bool:
    """Whether a number has a name, or is of another array: not of the same that is longer."""
    return _is_named(element) or element.path not in known


def _is_named(element: Element) -> bool:
    return isinstance(element.key, str) or selects_by_name(element.path)


def _label(elements: _Group, others: Sequence[Part]) -> str:
    """How its joints' names begin, or the first; the quantity if other parts have the joints."""
    names = sorted({_name(element) for element in elements})
    known = {_name(element) for part in others for element in part.elements}
    label = _beginning(names) or names[0]
    if not label or known & set(names):
        label = field_names(min(elements).path)[-1]
    label = re.sub(r"[^\w.-]+", "_", label)
    taken = {part.label for part in others}
    return label if label not in taken else f"{label}_{len(others) + 1}"


def _name(element: Element) -> str:
    if isinstance(element.key, str):
        return element.key
    named = [step for step in split_path(element.path) if isinstance(step, Named)]
    return named[-1].value if named else ""


def _beginning(names: Sequence[str]) -> str:
    """The words that all names begin with; the name where there is one only."""
    if len(names) == 1:
        return names[0]
    words = [re.split(r"[_/.]", name) for name in names]
    same = 0
    while all(len(each) > same + 1 and each[same] == words[0][same] for each in words):
        same += 1
    return "_".join(words[0][:same])
