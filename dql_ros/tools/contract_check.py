"""What is wrong with a contract: by itself, and compared with a recording.

By itself: its keys, its functions, and what it asks of its message types. Compared with a bag: its
topics, types, messages, times and values; and the episodes are made as a conversion makes them. If
that does not work, all that was found is wrong; if it does, nothing of it must be mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError, ContractError, DqlError, listed
from dql_core.rewards.call import load_predicate, load_rewards
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.definitions import known_type
from dql_ros.bag.storage.message_folders import message_folders
from dql_ros.bag.storage.storage import DamageError
from dql_ros.codecs.block_decoder import MessageError
from dql_ros.contract import (
    ActionStream,
    Contract,
    Predicate,
    Stream,
    TransformStream,
    contract_problems,
    load_contract,
)
from dql_ros.contract.units import why_unknown
from dql_ros.convert.bag_episodes import judged_steps, require_topic, steps_of
from dql_ros.convert.topic_decoders import (
    TopicRole,
    located,
    present_roles,
    topic_decoder,
)
from dql_ros.tools.contract_types import Flaw, command_warnings, topic_problems, type_problems
from dql_ros.tools.findings import Findings
from dql_ros.tools.rehearsal import Rehearsal, rehearse_bag
from dql_ros.tools.stream_probe import StreamProbe

Progress = Callable[[int], None]


@dataclass(frozen=True)
class BagCheck:
    """What became of checking one bag.

    Attributes:
        findings: What does not fit.
        blamed: The topics whose messages do not fit, by the contract's names.
        rehearsal: What a conversion makes of it; ``None`` if there are problems.
    """

    findings: Findings
    blamed: frozenset[str] = frozenset()
    rehearsal: Rehearsal | None = None

    @property
    def episodes(self) -> int:
        """How many episodes a conversion makes."""
        return 0 if self.rehearsal is None else len(self.rehearsal.lengths)

    @property
    def transitions(self) -> int:
        """How many transitions they have."""
        return 0 if self.rehearsal is None else sum(self.rehearsal.lengths)


def check_bag(
    path: Path,
    contract: Contract,
    namespace: str = "/",
    *,
    salvage: bool = False,
    msgs: Sequence[Path] = (),
    rehearse: bool = True,
    progress: Progress = lambda _: None,
) -> BagCheck:
    """Hold a contract against a bag, and make its episodes to see whether and how it converts.

    Args:
        path: The bag.
        contract: A valid contract.
        namespace: Namespace of the contract's relative topics in the bag.
        salvage: Read what can be read of a damaged bag.
        msgs: Folders with definitions of types that the bag does not define.
        rehearse: Whether to make the episodes; not where the contract's functions are wrong.
        progress: Called now and then with how many bytes are done, of twice the bag's size.
    """
    try:
        with Bag(path, salvage=salvage, msgs=msgs) as bag:
            findings, blamed = _compare(bag, contract, namespace, progress)
            if not rehearse:
                return BagCheck(findings, blamed)
            try:
                rehearsal = rehearse_bag(
                    bag, contract, namespace, lambda done: progress(bag.size_bytes + done)
                )
            except DqlError as cause:
                findings.problems = findings.problems or [str(cause)]
                return BagCheck(findings, blamed)
            # It converts, so that nothing must be mended before.
            findings = Findings(warnings=[*findings.problems, *findings.warnings])
            findings.problems += [f"{path}: {text}" for text in rehearsal.problems(bag.losses)]
            findings.warnings += [f"{path}: {text}" for text in rehearsal.warnings]
            return BagCheck(findings, rehearsal=rehearsal)
    except DqlError as cause:
        return BagCheck(Findings([str(cause)]))


def _compare(
    bag: Bag, contract: Contract, namespace: str, progress: Progress
) -> tuple[Findings, frozenset[str]]:
    """Return what does not fit, and the topics that are to blame."""
    findings = Findings()
    roles = []
    blamed = set()
    for role in present_roles(bag, contract, namespace):
        try:
            require_topic(bag, role)
            bag.typestore(role.topic, role.rule.type)
        except BagError as cause:
            findings.problems.append(str(cause))
            blamed.add(role.name)
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
    findings.warnings += [] if by_type else _command_warnings(bag, roles)
    known = {(problem.key, problem.path) for problem in by_type}
    blamed |= {problem.topic for problem in by_type}
    # How transforms are put together is seen when the episodes are made.
    roles = [role for role in roles if not isinstance(role.rule, TransformStream)]
    streams = [role for role in roles if isinstance(role.rule, Stream)]
    probes = {
        (role.kind, role.name): StreamProbe(
            role, bag.typestore(role.topic, role.rule.type), contract.period_ns
        )
        for role in streams
    }
    signals = [role for role in roles if not isinstance(role.rule, Stream)]
    failures = _read(bag, roles, probes, signals, progress)
    if steps := steps_of(bag, contract, roles):
        text, is_refused = judged_steps(steps, bag, contract)
        (findings.problems if is_refused else findings.warnings).append(text)
        if is_refused:
            return findings, frozenset(blamed)  # all else that is odd may come of it
    for role in streams:
        probe = probes[role.kind, role.name]
        found = probe.findings(contract)
        findings.add(found, str(bag.path))
        blamed |= {role.name} if found.problems or any(probe.failures()) else set()
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
    return findings, frozenset(blamed)


def _command_warnings(bag: Bag, roles: Sequence[TopicRole]) -> list[str]:
    return [
        f"{bag.path}: {text}"
        for role in roles
        if isinstance(role.rule, ActionStream)
        for text in command_warnings(role.rule, bag.typestore(role.topic, role.rule.type))
    ]


def _key(contract: Contract, role: TopicRole) -> str:
    """The contract's key of a topic's role."""
    if role.kind == "observation":
        inputs = ([each.key for each in stream.inputs] for stream in contract.observation)
        return f"observation.{[role.name in keys for keys in inputs].index(True)}"
    if role.kind == "action":
        return f"action.{[stream.key for stream in contract.action].index(role.name)}"
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
    warnings = [*_unit_warnings(contract), *_echo_warnings(contract)]
    return contract, Findings(_function_problems(contract), warnings)


def check_types(contract: Contract, msgs: Sequence[Path] = ()) -> Findings:
    """Compare a contract with its message types, as far as they are known without a bag.

    Args:
        contract: A valid contract.
        msgs: Folders with definitions, which come before ROS 2's standard types and what is
            installed here.

    Raises:
        ConfigError: If one of ``msgs`` has no definition.
    """
    folders = message_folders(tuple(msgs)) if msgs else None

    def typestore_of(msgtype: str) -> Typestore:
        try:
            return known_type(msgtype, folders)
        except DamageError:
            return get_typestore(Stores.ROS2_JAZZY)

    found = Findings()
    for problem in type_problems(contract, typestore_of):
        if problem.flaw is Flaw.UNKNOWN_TYPE:
            found.warnings.append(
                f"{problem}; a bag that defines it shows more, or --msgs with its package's folder"
            )
        else:
            found.problems.append(str(problem))
    if not found.problems:
        for stream in contract.action:
            typestore = typestore_of(stream.type)
            if stream.type in typestore.fielddefs:
                found.warnings += command_warnings(stream, typestore)
    return found


def _unit_warnings(contract: Contract) -> list[str]:
    """What fields are measured in that is no unit; where one is converted it is refused before."""
    named = {
        f"{stream.topic}: {complaint}: it is kept as a name that nothing converts or compares"
        for stream in (*contract.observation, *contract.action)
        for each in stream.fields
        if each.unit and (complaint := why_unknown(each.unit))
    }
    return sorted(named)


def _echo_warnings(contract: Contract) -> Iterator[str]:
    """Yield what is both commanded and observed, so that a policy may learn to repeat it."""
    observed = {
        (stream.topic, each.path) for stream in contract.observed_topics for each in stream.fields
    }
    for stream in contract.action:
        paths = [each.path for each in stream.fields if (stream.topic, each.path) in observed]
        if paths:
            named = listed(list(dict.fromkeys(paths)), 3)
            yield (
                f"{stream.topic}: {named} is commanded and observed, so that a policy may learn "
                f"to repeat it: command what the robot obeys; a policy observes its own last "
                f"commands by 'previous_action'"
            )


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
