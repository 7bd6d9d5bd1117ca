"""Tries a draft on its recordings, and mends it where nothing or little comes of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from dql_core.streams import SECOND_NS
from dql_ros.contract import Contract
from dql_ros.convert.clock import SPLIT
from dql_ros.tools.contract_check import BagCheck, check_bag, check_file
from dql_ros.tools.contract_draft.draft import Draft, draft_of_roles
from dql_ros.tools.contract_draft.roles import Roles, is_goal
from dql_ros.tools.findings import shortened

# So many topics are taken out at most, one after the other.
MOST_TRIES = 8
# A topic that takes away so much of what could be used is taken out; a goal, if it is nearly all.
COSTLY, COSTLY_GOAL = 0.8, 0.9
# What a conversion proposes where times cannot be right.
BY_RECEIPT, SPLIT_CLOCK = "'stamp: receive'", "'clock: split'"
# How a conversion names a topic whose clock is another than that of the one before it.
UNMOVED = " did not go back"
Bar = Callable[[Path], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class _Trial:
    """What became of a draft.

    Attributes:
        checks: Of each recording.
        contract: The draft; ``None`` if it is no valid contract.
        problems: What is wrong, a sentence each.
    """

    checks: tuple[BagCheck, ...]
    contract: Contract | None
    problems: tuple[str, ...]

    @property
    def transitions(self) -> int:
        """How many there are, of all recordings."""
        return sum(check.transitions for check in self.checks)

    def blamed(self) -> list[str]:
        """The streams whose messages do not fit, the likeliest first."""
        counts = Counter(topic for check in self.checks for topic in check.blamed)
        found = sorted(counts, key=counts.__getitem__, reverse=True)
        if not found and self.contract is not None and self.problems:
            streams = (*self.contract.observation, *self.contract.action)
            for after in (":", UNMOVED):
                named = [s.key for s in streams if f" {s.topic}{after}" in f" {self.problems[0]}"]
                found += [key for key in named if key not in found]
        return found

    def costliest(self, goals: Set[str]) -> Iterator[tuple[str, str]]:
        """Yield the topics that take away much, those that take away most first, and why.

        Args:
            goals: What the robot was told to do, without which the rest means less.
        """
        gains: Counter[tuple[str, str]] = Counter()
        covers: Counter[tuple[str, str]] = Counter()
        used_ns = 0
        for check in self.checks:
            if check.rehearsal is not None:
                gains.update(check.rehearsal.usage.gains_ns)
                covers.update(check.rehearsal.usage.covered_ns)
                used_ns += check.rehearsal.usage.used_ns
        for (_, topic), gain_ns in gains.most_common():
            share = COSTLY_GOAL if topic in goals else COSTLY
            if gain_ns > share * (used_ns + gain_ns):
                yield (
                    topic,
                    f"it would cost {gain_ns / SECOND_NS:.3g} s in which all else is there",
                )
        if not self.transitions:
            for (_, topic), covered_ns in covers.most_common()[::-1]:
                yield topic, f"it is there for {covered_ns / SECOND_NS:.3g} s, the least of all"


def fitting_draft(
    roles: Roles,
    bags: Sequence[Path],
    name: str,
    rate_hz: float | None = None,
    *,
    others: Sequence[str] = (),
    salvage: bool = False,
    msgs: Sequence[Path] = (),
    bar: Bar = lambda _: nullcontext(lambda _: None),
) -> Draft:
    """Draft a contract and try it; take out, one by one, the topics that leave nothing or little.

    Args:
        roles: What the topics are taken for.
        bags: The recordings.
        name: What the robot is called.
        rate_hz: The control rate, if a person gave one.
        others: Names of the other recordings, for the draft's heading.
        salvage: Read what can be read of damaged bags.
        msgs: Folders with definitions of types that bags do not define.
        bar: Shows how much of a recording is read.

    Returns:
        The draft, with a note on each topic that was taken out, and on what does not fit.
    """
    notes: list[str] = []
    for attempt in range(MOST_TRIES + 1):
        draft = draft_of_roles(roles, name, rate_hz, others)
        if draft.missing:
            break
        trial = _try(draft, bags, salvage=salvage, msgs=msgs, bar=bar)
        found = _mended(roles, trial) if attempt < MOST_TRIES else None
        if found is None:
            notes += _unfit(trial, roles)
            break
        note, roles = found
        notes.append(note)
    return replace(draft, notes=(*draft.notes, *map(shortened, notes)))


def _try(
    draft: Draft, bags: Sequence[Path], *, salvage: bool, msgs: Sequence[Path], bar: Bar
) -> _Trial:
    with tempfile.TemporaryDirectory(prefix="dql-draft-") as folder:
        file = Path(folder) / "draft.yaml"
        file.write_text(draft.text)
        contract, findings = check_file(file)
    if contract is None:
        return _Trial((), None, tuple(findings.problems))
    checks = []
    for bag in bags:
        with bar(bag) as progress:
            checks.append(check_bag(bag, contract, salvage=salvage, msgs=msgs, progress=progress))
    problems = [text for check in checks for text in check.findings.problems]
    return _Trial(tuple(checks), contract, tuple(problems))


def _mended(roles: Roles, trial: _Trial) -> tuple[str, Roles] | None:
    """What is done for the draft to fit better, and the roles then; ``None`` if nothing helps."""
    if (mended := _with_other_clock(roles, trial)) is not None:
        return mended
    costly = list(trial.costliest({topic.key for topic in roles.latched if is_goal(topic)}))
    if trial.problems:
        costly[:0] = [
            (key, next((text for text in trial.problems if key in text), trial.problems[0]))
            for key in trial.blamed()
        ]
    for topic, reason in costly:
        if (rest := _without(roles, topic, reason)) is not None:
            return f"{topic} is not used: {reason}", rest
    return None


def _with_other_clock(roles: Roles, trial: _Trial) -> tuple[str, Roles] | None:
    """The roles with times that can be right, where it is times that do not fit."""
    for problem in trial.problems:
        for topic in (*roles.observations, *roles.latched):
            if BY_RECEIPT in problem and f"{topic.name}:" in problem:
                if topic.name in roles.by_receipt:
                    continue
                by_receipt = {**roles.by_receipt, topic.name: "header stamps cannot be right"}
                what = _without_remedy(problem, BY_RECEIPT)
                return f"{topic.name} goes by its time of receipt: {what}", replace(
                    roles, by_receipt=by_receipt
                )
        if SPLIT_CLOCK in problem and not roles.clock:
            what = _without_remedy(problem, SPLIT_CLOCK)
            return f"episodes end where the clock jumps ('clock: split'): {what}", replace(
                roles, clock="the recorder's clock was set back; episodes end there"
            )
    return None


def _without_remedy(problem: str, remedy: str) -> str:
    """What is wrong, without what to do about it: the draft does that."""
    what = problem.partition(remedy)[0]
    for mark in ("; ", ": "):
        if mark in what:
            return what.rpartition(mark)[0]
    return problem


def _without(roles: Roles, name: str, reason: str) -> Roles | None:
    """The roles without a topic; ``None`` where it is the only one of its kind."""
    for group in (roles.latched, roles.observations, roles.actions):
        for topic in group:
            if topic.key == name:
                alone = group is not roles.latched and len(group) == 1
                return None if alone else roles.without(topic, reason)
    return None


def _unfit(trial: _Trial, roles: Roles) -> list[str]:
    """Why nothing comes of the draft; nothing if something does."""
    if trial.transitions and not trial.problems:
        return []
    reason = trial.problems[0] if trial.problems else "no transition comes of it"
    if roles.clock:
        reason = reason.replace(f", {SPLIT}", "")
    return [f"the draft does not fit: {reason}"]
