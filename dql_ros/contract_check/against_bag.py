"""Whether a contract fits one bag: its topics, types, messages, times and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dql_core.errors import BagError, DqlError
from dql_ros.bag.block_decoder import MessageError
from dql_ros.bag.episode_converter import ConvertedEpisode, EpisodeConverter
from dql_ros.bag.reader import Bag
from dql_ros.bag.recorded import RecordedEpisode
from dql_ros.bag.recording import read_recording
from dql_ros.bag.uses import Intake, Use, located, uses_of
from dql_ros.contract import ActionStream, Contract, Stream
from dql_ros.contract_check.findings import Findings
from dql_ros.contract_check.stream_probe import StreamProbe
from dql_ros.contract_types import type_problems

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Fit:
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
) -> Fit:
    """Hold a contract against a bag, and if it fits, make its episodes to see how many.

    Args:
        path: The bag.
        contract: A valid contract.
        namespace: Namespace of the contract's relative topics in the bag.
        salvage: Read what can be read of a damaged bag.
        rehearse: Whether to make the episodes; not where the contract's functions are wrong.
        progress: Told, now and then, how many of the bag's bytes are done, of twice its size.
    """
    try:
        with Bag(path, salvage=salvage) as bag:
            findings = _compare(bag, contract, namespace, progress)
            if findings.problems or not rehearse:
                return Fit(findings)
            return _rehearse(bag, contract, namespace, findings, progress)
    except DqlError as cause:
        return Fit(Findings([str(cause)]))


def _compare(bag: Bag, contract: Contract, namespace: str, progress: Progress) -> Findings:
    findings = Findings()
    uses = []
    for use in uses_of(contract, namespace):
        try:
            bag.require_topic(use.topic, use.rule.type, use.role, may_be_silent=use.may_be_silent)
            bag.typestore(use.topic, use.rule.type)
        except BagError as cause:
            findings.problems.append(str(cause))
        else:
            uses.append(use)
    by_type = list(dict.fromkeys(_type_problems(bag, contract, uses)))
    of_definitions = [problem for problem in by_type if "cannot be sent" not in problem]
    findings.problems += [f"{bag.path}: {problem}" for problem in by_type]
    streams = [use for use in uses if isinstance(use.rule, Stream)]
    probes = {
        (use.kind, use.name): StreamProbe(use, bag.typestore(use.topic, use.rule.type))
        for use in streams
    }
    signals = [use for use in uses if not isinstance(use.rule, Stream)]
    failures = _read(bag, uses, probes, signals, progress)
    for probe in probes.values():
        findings.add(probe.findings(contract), str(bag.path))
        for selection, failure, block in probe.failures():
            # What the type has not got is told once, not of the first message again.
            if not any(f"'{selection.path}" in problem for problem in of_definitions):
                failures.append(str(located(failure, block, bag.start_ns, bag.path)))
    findings.problems += failures
    findings.warnings += [f"{bag.path}: {text}" for text in _rates(contract, probes, streams)]
    findings.warnings += [
        f"{bag.path}: lost of {loss.file}: {loss.messages or 'an unknown number of'} messages: "
        f"{loss.reason}"
        for loss in bag.losses
    ]
    return findings


def _type_problems(bag: Bag, contract: Contract, uses: list[Use]) -> Iterator[str]:
    """What the bag's own definitions say; those of one topic may not know another's type."""
    for use in uses:
        begin = f"{_key(contract, use)} ("
        for problem in type_problems(contract, bag.typestore(use.topic, use.rule.type)):
            if problem.startswith(begin):
                yield problem


def _key(contract: Contract, use: Use) -> str:
    """The contract's key of a use."""
    if use.kind in {"observation", "action"}:
        streams: tuple[Stream, ...] = getattr(contract, use.kind)
        return f"{use.kind}.{[stream.topic for stream in streams].index(use.name)}"
    return use.name if use.name == "reward" else f"episode.{use.name}"


def _read(
    bag: Bag,
    uses: list[Use],
    probes: dict[tuple[str, str], StreamProbe],
    signals: list[Use],
    progress: Progress,
) -> list[str]:
    """Show the probes every message; return what is wrong with signals and events."""
    intakes = {
        use.name: Intake(use, bag.typestore(use.topic, use.rule.type), refuses_nonfinite=False)
        for use in signals
    }
    failures: dict[str, str] = {}
    for batch in bag.batches(frozenset(use.topic for use in uses)):
        for block in batch.blocks:
            for use in uses:
                if (use.topic, use.rule.type) != (block.topic, block.msgtype):
                    continue
                if isinstance(use.rule, Stream):
                    probes[use.kind, use.name].add(block)
                elif use.name not in failures:
                    try:
                        intakes[use.name](block)
                    except MessageError as cause:
                        text = str(located(cause, block, bag.start_ns, bag.path))
                        failures[use.name] = text
        progress(batch.bytes_done)
    return list(failures.values())


def _rates(
    contract: Contract, probes: dict[tuple[str, str], StreamProbe], streams: list[Use]
) -> Iterator[str]:
    """Compare the control rate with that of the commands."""
    for use in streams:
        rate_hz = probes[use.kind, use.name].statistics.to_json()["rate_hz"]
        if not isinstance(use.rule, ActionStream) or not rate_hz or contract.tick == "action":
            continue
        if contract.rate_hz > 1.5 * rate_hz:
            yield (
                f"{use.topic}: came {rate_hz:.3g} times a second; at rate_hz "
                f"{contract.rate_hz:g} most actions repeat the one before"
            )
        elif rate_hz > 2.5 * contract.rate_hz:
            yield (
                f"{use.topic}: came {rate_hz:.3g} times a second; at rate_hz "
                f"{contract.rate_hz:g} only one command in {rate_hz / contract.rate_hz:.2g} counts"
            )


def _rehearse(
    bag: Bag, contract: Contract, namespace: str, findings: Findings, progress: Progress
) -> Fit:
    """Make the episodes, as a conversion does, and count them."""
    converter = EpisodeConverter(contract)
    lengths: list[int] = []

    def take(recorded: RecordedEpisode) -> None:
        made = converter(recorded)
        lengths.extend(len(each.episode) for each in made if isinstance(each, ConvertedEpisode))

    recording = read_recording(
        bag, contract, namespace, take, lambda done: progress(bag.size_bytes + done)
    )
    if not lengths:
        reasons = "; ".join(
            f"{each.reason} from {(each.start_ns - bag.start_ns) / 1e9:.1f} s"
            for each in recording.left_out[:3]
        )
        findings.problems.append(
            f"{bag.path}: no episode could be made ({reasons or 'no message'}); compare max_age_s "
            f"and the episode rules with the recording"
        )
    return Fit(findings, len(lengths), sum(lengths))
