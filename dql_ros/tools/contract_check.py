"""What is wrong with a contract: by itself, and compared with a recording.

By itself: its keys, its functions, and what it asks of its message types. Compared with a bag: its
topics, types, messages, times and values; and if it fits, the episodes are made as a conversion
makes them, to see how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError, ContractError, DqlError
from dql_core.rewards.call import load_predicate, load_rewards
from dql_ros.bag.reader import Bag
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import BlockDecoder, MessageError
from dql_ros.contract import (
    ActionStream,
    Contract,
    FieldSelection,
    Predicate,
    Stream,
    contract_problems,
    load_contract,
)
from dql_ros.convert.bag_job import read_bag_episodes, require_topic
from dql_ros.convert.episode_converter import ConvertedEpisode, EpisodeConverter
from dql_ros.convert.recorded_episode import RecordedEpisode
from dql_ros.convert.report.topic_statistics import TopicStatistics
from dql_ros.convert.topic_decoders import TopicRole, located, topic_decoder, topic_roles
from dql_ros.tools.contract_types import Flaw, topic_problems, type_problems
from dql_ros.tools.survey import begins_with_header, header_stamps

Progress = Callable[[int], None]
# Two turns: angles that go beyond are counted in something else than radians.
LARGEST_RAD = 4 * np.pi


@dataclass
class Findings:
    """Sentences without the contract's name.

    Attributes:
        problems: What must be mended before anything can be converted.
        warnings: What converts, but perhaps not as it was meant.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: Findings, where: str = "") -> None:
        """Take over what was found elsewhere, with the place in front."""
        prefix = f"{where}: " if where else ""
        self.problems += [f"{prefix}{text}" for text in other.problems]
        self.warnings += [f"{prefix}{text}" for text in other.warnings]


@dataclass(frozen=True)
class BagCheck:
    """What became of checking one bag.

    Attributes:
        findings: What does not fit.
        episodes: How many episodes a conversion makes; 0 if there are problems.
        transitions: How many transitions they have.
    """

    findings: Findings
    episodes: int = 0
    transitions: int = 0


def check_bag(
    path: Path,
    contract: Contract,
    namespace: str = "/",
    *,
    salvage: bool = False,
    rehearse: bool = True,
    progress: Progress = lambda _: None,
) -> BagCheck:
    """Hold a contract against a bag, and if it fits, make its episodes to see how many.

    Args:
        path: The bag.
        contract: A valid contract.
        namespace: Namespace of the contract's relative topics in the bag.
        salvage: Read what can be read of a damaged bag.
        rehearse: Whether to make the episodes; not where the contract's functions are wrong.
        progress: Called now and then with how many bytes are done, of twice the bag's size.
    """
    try:
        with Bag(path, salvage=salvage) as bag:
            findings = _compare(bag, contract, namespace, progress)
            if findings.problems or not rehearse:
                return BagCheck(findings)
            return _rehearse(bag, contract, namespace, findings, progress)
    except DqlError as cause:
        return BagCheck(Findings([str(cause)]))


def _compare(bag: Bag, contract: Contract, namespace: str, progress: Progress) -> Findings:
    findings = Findings()
    roles = []
    for role in topic_roles(contract, namespace):
        try:
            require_topic(bag, role)
            bag.typestore(role.topic, role.rule.type)
        except BagError as cause:
            findings.problems.append(str(cause))
        else:
            roles.append(role)
    by_type = [
        problem
        for role in roles
        for problem in topic_problems(
            _key(contract, role), role.rule, bag.typestore(role.topic, role.rule.type)
        )
    ]
    findings.problems += [f"{bag.path}: {problem}" for problem in by_type]
    known = {(problem.key, problem.path) for problem in by_type}
    streams = [role for role in roles if isinstance(role.rule, Stream)]
    probes = {
        (role.kind, role.name): StreamProbe(role, bag.typestore(role.topic, role.rule.type))
        for role in streams
    }
    signals = [role for role in roles if not isinstance(role.rule, Stream)]
    failures = _read(bag, roles, probes, signals, progress)
    for role in streams:
        probe = probes[role.kind, role.name]
        findings.add(probe.findings(contract), str(bag.path))
        for selection, failure, block in probe.failures():
            # What the type does not have is reported once, not of the first message again.
            if (_key(contract, role), selection.path) not in known:
                failures.append(str(located(failure, block, bag.start_ns, bag.path)))
    findings.problems += failures
    findings.warnings += [f"{bag.path}: {text}" for text in _rates(contract, probes, streams)]
    findings.warnings += [
        f"{bag.path}: lost of {loss.file}: {loss.messages or 'an unknown number of'} messages: "
        f"{loss.reason}"
        for loss in bag.losses
    ]
    return findings


def _key(contract: Contract, role: TopicRole) -> str:
    """The contract's key of a topic's role."""
    if role.kind in {"observation", "action"}:
        streams: tuple[Stream, ...] = getattr(contract, role.kind)
        return f"{role.kind}.{[stream.topic for stream in streams].index(role.name)}"
    return role.name if role.name == "reward" else f"episode.{role.name}"


def _read(
    bag: Bag,
    roles: list[TopicRole],
    probes: dict[tuple[str, str], StreamProbe],
    signals: list[TopicRole],
    progress: Progress,
) -> list[str]:
    """Show the probes every message; return what is wrong with signals and events."""
    decoders = {
        role.name: topic_decoder(
            role, bag.typestore(role.topic, role.rule.type), refuse_nonfinite=False
        )
        for role in signals
    }
    failures: dict[str, str] = {}
    for batch in bag.batches(frozenset(role.topic for role in roles)):
        for block in batch.blocks:
            for role in roles:
                if (role.topic, role.rule.type) != (block.topic, block.msgtype):
                    continue
                if isinstance(role.rule, Stream):
                    probes[role.kind, role.name].add(block)
                elif role.name not in failures:
                    try:
                        decoders[role.name](block)
                    except MessageError as cause:
                        text = str(located(cause, block, bag.start_ns, bag.path))
                        failures[role.name] = text
        progress(batch.bytes_done)
    return list(failures.values())


def _rates(
    contract: Contract, probes: dict[tuple[str, str], StreamProbe], streams: list[TopicRole]
) -> Iterator[str]:
    """Compare the control rate with that of the commands."""
    for role in streams:
        rate_hz = probes[role.kind, role.name].statistics.to_json()["rate_hz"]
        if not isinstance(role.rule, ActionStream) or not rate_hz or contract.tick == "action":
            continue
        if contract.rate_hz > 1.5 * rate_hz:
            yield (
                f"{role.topic}: came {rate_hz:.3g} times a second; at rate_hz "
                f"{contract.rate_hz:g} most actions repeat the one before"
            )
        elif rate_hz > 2.5 * contract.rate_hz:
            yield (
                f"{role.topic}: came {rate_hz:.3g} times a second; at rate_hz "
                f"{contract.rate_hz:g} only one command in {rate_hz / contract.rate_hz:.2g} counts"
            )


def _rehearse(
    bag: Bag, contract: Contract, namespace: str, findings: Findings, progress: Progress
) -> BagCheck:
    """Make the episodes, as a conversion does, and count them."""
    converter = EpisodeConverter(contract)
    lengths: list[int] = []

    def take(recorded: RecordedEpisode) -> None:
        made = converter(recorded)
        lengths.extend(len(each.episode) for each in made if isinstance(each, ConvertedEpisode))

    summary = read_bag_episodes(
        bag, contract, namespace, take, lambda done: progress(bag.size_bytes + done)
    )
    if not lengths:
        reasons = "; ".join(
            f"{each.reason} from {(each.start_ns - bag.start_ns) / 1e9:.1f} s"
            for each in summary.skipped[:3]
        )
        findings.problems.append(
            f"{bag.path}: no episode could be made ({reasons or 'no message'}); lower "
            f"min_length, raise max_age_s, or check start/stop/during"
        )
    return BagCheck(findings, len(lengths), sum(lengths))


def check_file(path: Path) -> tuple[Contract | None, Findings]:
    """Read a contract.

    Returns:
        The contract, or ``None`` if it is not valid, and what is wrong with it.

    Raises:
        ContractError: If there is no such file, or it is no yaml mapping.
    """
    problems = contract_problems(path)
    if problems:
        return None, Findings(problems)
    contract = load_contract(path)
    return contract, Findings(_function_problems(contract))


def check_standard_types(contract: Contract) -> Findings:
    """Compare a contract with ROS 2's standard types; others are only known with a bag."""
    found = Findings()
    for problem in type_problems(contract, get_typestore(Stores.ROS2_JAZZY)):
        if problem.flaw is Flaw.UNKNOWN_TYPE:
            found.warnings.append(f"{problem}; a bag that defines it shows more")
        else:
            found.problems.append(str(problem))
    return found


def _function_problems(contract: Contract) -> list[str]:
    problems = []
    for function in contract.reward_functions:
        try:
            load_rewards([function])
        except ContractError as cause:
            problems.append(str(cause))
    if isinstance(contract.episode.terminated, Predicate):
        try:
            load_predicate(contract.episode.terminated)
        except ContractError as cause:
            problems.append(str(cause))
    return problems


@dataclass
class _Range:
    """What one field of the vector was."""

    low: float = np.inf
    high: float = -np.inf
    beyond: int = 0
    nonfinite: int = 0


class _SelectionProbe:
    """Decodes one selection by itself, so that what is wrong with each is reported."""

    def __init__(self, selection: FieldSelection, role: TopicRole, store: Typestore) -> None:
        rule = role.rule
        assert isinstance(rule, Stream)
        self.selection = selection
        self.specs = selection.fields(rule.topic)
        self.ranges = [_Range() for _ in self.specs]
        self.failure: MessageError | None = None
        self.failed: MessageBlock | None = None
        alone = {"topic": role.topic, "fields": (selection,), "stamp": "receive"}
        self._decoder = BlockDecoder(rule.model_copy(update=alone), store)

    def add(self, block: MessageBlock) -> None:
        if self.failure is not None:
            return
        try:
            values = self._decoder.decode(block).values
        except MessageError as cause:
            self.failure, self.failed = cause, block
            return
        for column, spec, known in zip(values.T, self.specs, self.ranges, strict=True):
            with np.errstate(over="ignore"):
                stored = column.astype(np.float32)  # as the dataset has it
            finite = stored[np.isfinite(stored)]
            known.nonfinite += len(column) - len(finite)
            if len(finite):
                known.low = min(known.low, float(finite.min()))
                known.high = max(known.high, float(finite.max()))
                low, high = np.float32(spec.low), np.float32(spec.high)
                known.beyond += int(((finite < low) | (finite > high)).sum())


class StreamProbe:
    """Takes the blocks of a stream's topic."""

    def __init__(self, role: TopicRole, store: Typestore) -> None:
        rule = role.rule
        assert isinstance(rule, Stream)
        self._rule, self._topic = rule, role.topic
        self._stamped = rule.stamp == "header" and begins_with_header(store, rule.type)
        self.statistics = TopicStatistics(role.topic, rule.type, role.label, role.limit_ns)
        self._strange = 0
        self._selections = [_SelectionProbe(each, role, store) for each in rule.fields]

    def add(self, block: MessageBlock) -> None:
        """Take the next messages."""
        stamps_ns = header_stamps(block) if self._stamped else None
        self.statistics.add(block.log_times_ns, stamps_ns)
        limit_ns = self._rule.max_skew_ns
        if stamps_ns is not None and limit_ns is not None:
            self._strange += int((np.abs(block.log_times_ns - stamps_ns) > limit_ns).sum())
        for probe in self._selections:
            probe.add(block)

    def failures(self) -> Iterator[tuple[FieldSelection, MessageError, MessageBlock]]:
        """Yield each selection that a message does not have, with the first such message."""
        for probe in self._selections:
            if probe.failure is not None and probe.failed is not None:
                yield probe.selection, probe.failure, probe.failed

    def findings(self, contract: Contract) -> Findings:
        """Say what of the messages' times and values does not fit, each with the topic."""
        found = Findings()
        found.problems += self._skews()
        found.warnings += self._ages()
        for probe in self._selections:
            for spec, known in zip(probe.specs, probe.ranges, strict=True):
                if known.nonfinite:
                    where = found.problems if contract.nonfinite == "refuse" else found.warnings
                    where.append(
                        f"{self._topic}: '{spec.name}' is NaN or infinite in {known.nonfinite:,} "
                        f"of {self.statistics.count:,} messages; 'nonfinite' says what becomes "
                        f"of them"
                    )
                if known.beyond:
                    is_refused = (
                        isinstance(self._rule, ActionStream) and contract.beyond_bounds == "refuse"
                    )
                    (found.problems if is_refused else found.warnings).append(
                        f"{self._topic}: '{spec.name}' is beyond its bounds {spec.low:g} to "
                        f"{spec.high:g} in {known.beyond:,} of {self.statistics.count:,} "
                        f"messages: it was {known.low:.4g} to {known.high:.4g}"
                    )
                largest = max(abs(known.low), abs(known.high))
                if spec.unit == "rad" and np.isfinite(largest) and largest > LARGEST_RAD:
                    found.warnings.append(
                        f"{self._topic}: '{spec.name}' is up to {largest:.4g} rad; if the "
                        f"messages have degrees, set 'message_unit: deg'"
                    )
        return found

    def _skews(self) -> Iterator[str]:
        if not self._strange:
            return
        figures = self.statistics.to_json()
        zero, delay = figures["stamps"]["zero"], figures["receive_minus_header_ms"]
        apart = "" if delay is None else f", usually {delay['p50'] / 1000:.4g} s"
        yield (
            f"{self._topic}: {self._strange:,} of {self.statistics.count:,} header stamps are "
            f"farther than max_skew_s ({self._rule.max_skew_s:g} s) from the time of receipt"
            f"{apart}{f'; {zero:,} are zero' if zero else ''}; set 'stamp: receive'"
        )

    def _ages(self) -> Iterator[str]:
        figures = self.statistics.to_json()
        limit_s, median_ms = figures["limit_s"], figures["median_pause_ms"]
        if limit_s is None or median_ms is None:
            return
        delay = figures["receive_minus_header_ms"]
        late_s = max(0.0, delay["p50"] / 1000) if delay is not None else 0.0
        usual_s = median_ms / 1000 + late_s
        if usual_s > limit_s:
            yield (
                f"{self._topic}: max_age_s is {limit_s:g}, but a value is usually {usual_s:.3g} s "
                f"old when the next comes; almost nothing can be used"
            )
        elif figures["gaps"]:
            yield (
                f"{self._topic}: {_count(figures['gaps'], 'pause')} longer than max_age_s "
                f"({limit_s:g} s), the longest {figures['longest_pause_s']:.3g} s; episodes end "
                f"there"
            )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
