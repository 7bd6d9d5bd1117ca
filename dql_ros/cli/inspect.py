"""`dql inspect`: show what a file or folder of the project holds, a bag as tables or as JSON."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dql_core.cli.console import facts_table, fields_table, plain_table, spec_facts
from dql_core.cli.terminal import NameText, TaskText, Terminal, print_json, print_line
from dql_core.errors import (
    BagError,
    ConfigError,
    DqlError,
    counted,
    did_you_mean_path,
    one_line,
    visible,
)
from dql_core.files import write_text
from dql_ros.bag.reader import STORAGE_SUFFIXES, Bag, bags_within, is_storage, unreadable_remarks
from dql_ros.cli.delays import add_inference, delay_tables, inference_of
from dql_ros.contract import Contract, QualityOfService, contract_path, load_contract
from dql_ros.tools.delay.pairs import find_delays
from dql_ros.tools.delay.picture import draw
from dql_ros.tools.survey import FEW, SurveyedTopic, survey
from dql_ros.tools.topic_clock import BEHIND_MS, recorder_faults

# Imported when it is needed: its libraries take seconds, which a bag need not wait for.
DESCRIBER = "dql_core.cli.inspect"
# A contract's default limit, `max_skew_s`.
OTHER_CLOCK_MS = 60_000
# What is wrong with times also where they are of different clocks.
OF_ONE_CLOCK = {"set_back", "no_time"}
# What many nodes publish together, as a rule.
OF_MANY = {
    "diagnostic_msgs/msg/DiagnosticArray",
    "rcl_interfaces/msg/Log",
    "rcl_interfaces/msg/ParameterEvent",
    "tf2_msgs/msg/TFMessage",
}
# Of several things, one could not be shown.
UNSHOWN = 2
MsgsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--msgs",
        metavar="DIR",
        help="A folder with definitions of message types that a recording does not define: a "
        "package's .msg or .idl files, several packages, or an installed share/. May be repeated.",
    ),
]
_FIGURES = (
    "rate: mean without far longer pauses; spacing: median; jitter: 95 % of the spacings are so "
    "near to the median; longest: spacing; delay: from header stamp to receipt, median and longest"
)
# The figures of a topic, with their units.
_COLUMNS = (
    ("count", ""),
    ("rate", "Hz"),
    ("spacing", "ms"),
    ("jitter", "ms"),
    ("longest", "s"),
    ("delay", "ms"),
)
# A terminal with fewer columns has no room for names beside the figures.
NARROWEST_TABLE = 76
# What a topic's row has no need of: there is no contract that sets limits or ticks.
_OF_A_CONTRACT = {"role", "limit_s", "gaps", "gap_spans", "missing_estimate", "age_at_tick_ms"}


def inspect(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Bags (rosbag2 folders, .mcap, .db3 or ROS 1 .bag files), datasets, run folders, "
            "checkpoints, policy bundles or contracts.",
        ),
    ],
    salvage: Annotated[
        bool,
        typer.Option(
            "--salvage", help="Read what is left of a damaged bag, and say how much is lost."
        ),
    ] = False,
    msgs: MsgsOption = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print what is known of a bag as JSON; of several bags, a list."
        ),
    ] = False,
    delay: Annotated[
        bool,
        typer.Option(
            "--delay",
            help="Say after what time the robot answers a command, and how long each stream's "
            "messages take to arrive; needs --contract.",
        ),
    ] = False,
    contract: Annotated[
        Path | None,
        typer.Option(
            "--contract", help="Robot contract (yaml) that names commands and states for --delay."
        ),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", help="Namespace of the contract's relative topics.")
    ] = "/",
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Draw the delays of a bag into this file (.svg)."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            help="Time a policy of this robot here, and count its inference in --delay's delay_s.",
        ),
    ] = None,
) -> None:
    """Show what bags, datasets, runs, checkpoints, bundles or contracts hold.

    A bag is read from start to end, so that all of it is known to be readable: its topics come
    with their rates, how even they are, and what their header stamps show. Fields come with their
    units and bounds; a bundle is also checked for damage: every file's hash is compared with the
    manifest.

    Of several, those that cannot be shown are named, and the rest is shown; the exit code is 2.

    With --delay all of that is about delays: of each command and the state that answers it, with
    an interval, or why it cannot be told; and what to write into the contract.

    Example: dql inspect runs/demo/bundles/diffusion_ql
    """
    rules = _delay_contract(delay, contract, picture, bundle, paths)
    inference = None if rules is None or bundle is None else inference_of(bundle, rules)
    documents = []
    failed = False
    for path in paths:
        try:
            if not _looks_like_bag(path):
                if as_json or salvage or msgs or delay:
                    raise DqlError(
                        f"{path}: is no bag; --json, --salvage and --msgs are for bags, and so "
                        f"is --delay"
                    )
                Terminal().print(_described(path))
                continue
            document = _document(
                path, rules, namespace, inference, salvage=salvage, msgs=msgs or ()
            )
            if picture is not None:
                write_text(picture, draw(str(path), document["delay"]))
        except DqlError as cause:
            if len(paths) == 1:
                raise
            failed = True
            print_line(f"dql: {one_line(cause)}", err=True)
            continue
        documents.append(document)
        if not as_json:
            Terminal().print(bag_tables(document) if rules is None else delay_tables(document))
    if as_json and documents:
        print_json(documents if len(paths) > 1 else documents[0])
    if failed:
        raise typer.Exit(UNSHOWN)


def _looks_like_bag(path: Path) -> bool:
    if not path.is_dir():
        return path.is_file() and path.name.endswith(STORAGE_SUFFIXES)
    return (path / "metadata.yaml").is_file() or any(map(is_storage, path.iterdir()))


def _document(
    path: Path,
    rules: Contract | None,
    namespace: str,
    inference: Mapping[str, Any] | None,
    *,
    salvage: bool,
    msgs: Sequence[Path],
) -> dict[str, Any]:
    """What is known of a bag; with a contract, of its delays."""
    with (
        Bag(path, salvage=salvage, msgs=msgs) as bag,
        reading_bar("Reading", bag.size_bytes) as progress,
    ):
        if rules is None:
            return bag_document(bag, survey(bag, progress, judge_clocks=True))
        found = find_delays(bag, rules, namespace, progress)
    if inference is not None:
        add_inference(found, inference, rules)
    return {"bag": str(path), "delay": found}


def _delay_contract(
    delay: bool,
    contract: Path | None,
    picture: Path | None,
    bundle: Path | None,
    paths: Sequence[Path],
) -> Contract | None:
    """The contract by which delays are looked for; ``None`` if they are not.

    Raises:
        ConfigError: If an option lacks another that it needs.
    """
    if not delay:
        options = {"--contract": contract, "--picture": picture, "--bundle": bundle}
        for given in (name for name, value in options.items() if value is not None):
            raise ConfigError(f"{given} is for delays: give --delay, too, or leave it out")
        return None
    if contract is None:
        raise ConfigError(
            "--delay needs --contract, which says what is commanded and observed; "
            "'dql contract init BAG' writes a first one"
        )
    if picture is not None and len(paths) > 1:
        raise ConfigError(f"--picture {picture}: shows one bag, and {len(paths)} are given")
    return load_contract(contract_path(contract))


def _described(path: Path) -> Group:
    if not path.exists():
        hint = did_you_mean_path(path, path.parent.glob("*"))
        raise DqlError(f"{path}: no such file or folder{hint}")
    known = importlib.import_module(DESCRIBER).describe(path)
    if isinstance(known, Group):
        return known
    if path.suffix in {".yaml", ".yml"}:
        return _contract(path, load_contract(path))
    raise DqlError(
        f"{path}: is nothing that 'dql inspect' knows; it shows bags (a folder with "
        f"metadata.yaml, {' or '.join(STORAGE_SUFFIXES)} files), datasets, run folders, "
        f"checkpoints, policy bundles and contracts (.yaml){bags_within(path)}"
    )


def _contract(path: Path, contract: Contract) -> Group:
    streams = plain_table("topic", "type", "QoS", "age limit")
    streams.columns[0].min_width = len("observation")
    streams.add_row(Text("observation", "bold"))
    for observed in contract.observed_topics:
        limit = "none (latched)" if observed.latched else f"{observed.max_age_s:g} s"
        streams.add_row(observed.title, _short(observed.type), _qos(observed.qos), limit)
    streams.add_section()
    streams.add_row(Text("action", "bold"))
    for commanded in contract.action:
        streams.add_row(commanded.topic, _short(commanded.type), _qos(commanded.qos))
    safe = ", ".join(f"{value:g}" for value in contract.safe_command)
    facts = {
        **spec_facts(contract.policy_spec()),
        "on a fault": f"hold for {contract.on_fault.hold_s:g} s, then send {safe}",
    }
    return Group(
        facts_table(f"contract {path}", facts), streams, fields_table(contract.policy_spec())
    )


def _short(msgtype: str) -> str:
    return msgtype.replace("/msg/", "/")


def _qos(qos: QualityOfService) -> str:
    return f"{qos.reliability}, {qos.durability}"


def bag_document(bag: Bag, topics: Sequence[SurveyedTopic]) -> dict[str, Any]:
    """Return all that is known of a surveyed bag, ready for JSON."""
    faults, notes = _recorder_faults(bag, topics)
    return {
        "bag": str(bag.path),
        "files": [{"name": file.name, "bytes": file.stat().st_size} for file in bag.files],
        "size_bytes": bag.size_bytes,
        "start_ns": bag.start_ns,
        "end_ns": bag.end_ns,
        "duration_s": round((bag.end_ns - bag.start_ns) / 1e9, 9),
        "message_count": bag.message_count,
        "messages_read": sum(each.statistics.count for each in topics),
        "carries": sorted(bag.custom_data),
        "topics": [
            _topic_document(each, bag.publishers(each.topic.name), faults.get(each.topic.name, ()))
            for each in topics
        ],
        "losses": [vars(loss) for loss in bag.losses],
        "notes": [*bag.notes, *notes],
    }


def _recorder_faults(
    bag: Bag, topics: Sequence[SurveyedTopic]
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Where the recorder's clock was set back, by topic; and what else is to be said of that."""
    once = {each.topic.name for each in topics if each.statistics.count <= FEW}
    try:
        found = recorder_faults(bag, once)
    except BagError as cause:
        return {}, [one_line(cause)]
    return {name: faults.to_json() for name, faults in found.items()}, []


def bag_tables(document: Mapping[str, Any]) -> Group:
    """Show a bag's document on a terminal."""
    started = datetime.fromtimestamp(document["start_ns"] / 1e9, tz=timezone.utc)
    names = ", ".join(file["name"] for file in document["files"])
    facts = {
        "starts": f"{document['start_ns'] / 1e9:.3f} s ({started:%Y-%m-%d %H:%M:%S} UTC)",
        "duration": f"{document['duration_s']:.3f} s",
        "messages": _messages(document),
        "files": f"{names} ({document['size_bytes'] / 1e6:.2f} MB)",
        "carries": ", ".join(document["carries"]),
    }
    parts: list[Any] = [NameText(visible(f"bag {document['bag']}"), "bold", overflow="fold")]
    parts += [facts_table("", facts), _Topics(document["topics"])]
    if document["messages_read"]:
        parts.append(Text(_FIGURES, "dim italic"))
    parts += [NameText(visible(f"- {remark}"), "yellow") for remark in bag_remarks(document)]
    return Group(*parts)


def _messages(document: Mapping[str, Any]) -> str:
    """How many messages were read, and of how many if that is not all."""
    read, stated = document["messages_read"], document["message_count"]
    return f"{read:,}" if read >= stated else f"{read:,} of {stated:,} could be read"


def bag_remarks(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is odd about a bag, a sentence each."""
    yield from document["notes"]
    for loss in document["losses"]:
        count = "messages" if loss["messages"] is None else counted(loss["messages"], "message")
        size = "" if loss["bytes"] is None else f" ({counted(loss['bytes'], 'byte')})"
        yield f"lost: {count} of {loss['file']}{size}: {loss['reason']}"
    yield from unreadable_remarks(
        (topic["topic"], topic["type"], topic["count"], topic["unreadable"])
        for topic in document["topics"]
        if topic["unreadable"]
    )
    for topic in document["topics"]:
        name = topic["topic"]
        if topic["stated"] == 0 and not topic["count"]:
            yield f"{name}: has no message"
        if topic["publishers"] > 1 and topic["count"] and topic["type"] not in OF_MANY:
            yield f"{name}: has {topic['publishers']} publishers; each may fill it in another way"
        if oddities := [*_stamp_oddities(topic), *_clock_oddities(topic)]:
            yield f"{name}: {'; '.join(oddities)}"


def _topic_document(
    surveyed: SurveyedTopic, publishers: int, faults: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    figures = surveyed.statistics.to_json()
    return {
        **{key: value for key, value in figures.items() if key not in _OF_A_CONTRACT},
        "stated": surveyed.topic.count,
        "publishers": publishers,
        "clock_faults": [*surveyed.clock_faults, *faults],
        "known": not surveyed.unreadable,
        "unreadable": surveyed.unreadable,
    }


def _stamp_oddities(topic: Mapping[str, Any]) -> Iterator[str]:
    for kind, words in (
        ("zero", "header stamps are zero"),
        ("backwards", "header stamps go backwards"),
        ("duplicate", "header stamps repeat the one before"),
    ):
        if count := (topic["stamps"] or {}).get(kind, 0):
            yield f"{count:,} of {topic['count']:,} {words}"
    delay = topic["receive_minus_header_ms"]
    if _of_other_clock(delay):
        yield (
            f"header stamps and times of receipt are {delay['p50'] / 1000:.4g} s apart: they are "
            f"of different clocks"
        )
    elif delay is not None and delay["p50"] > BEHIND_MS and topic["count"] > FEW:
        yield (
            f"header stamps are usually {delay['p50'] / 1000:.3g} s before their receipt: two "
            f"clocks differ, or messages take so long"
        )


def _clock_oddities(topic: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the times of single messages, in the words of a conversion's report."""
    is_other = _of_other_clock(topic["receive_minus_header_ms"])
    for fault in topic["clock_faults"]:
        if is_other and fault["kind"] not in OF_ONE_CLOCK:
            continue
        text = f"message {fault['first']:,}: {fault['problem']}"
        if fault["messages"] > 1:
            text += f" (so it is with {fault['messages']:,} of {topic['count']:,} messages)"
        yield text


class _Topics:
    """Shows topics as a table; where the names have no room beside the figures, above them."""

    def __init__(self, topics: Sequence[Mapping[str, Any]]) -> None:
        self._topics = topics

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or the lines."""
        if options.max_width >= NARROWEST_TABLE:
            yield self._table()
            return
        for topic in self._topics:
            figures = (f"{topic['count']:,}", *_timing(topic))
            texts = [
                f"{name} {figure} {unit}".rstrip()
                for (name, unit), figure in zip(_COLUMNS, figures, strict=True)
                if figure
            ]
            yield _names(topic)
            yield Text(f"{'; '.join(texts)}\n")

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(Text("topic\ntype"), overflow="fold")
        for name, unit in _COLUMNS:
            heading = f"{name}\n{unit}" if unit else f"\n{name}"
            table.add_column(Text(heading), justify="right", no_wrap=True)
        for topic in self._topics:
            table.add_row(_names(topic), f"{topic['count']:,}", *_timing(topic))
        return table


def _names(topic: Mapping[str, Any]) -> Text:
    msgtype = visible(topic["type"].replace("/msg/", "/"))
    return NameText.assemble(visible(topic["topic"]), "\n", (msgtype, "dim"))


def _timing(topic: Mapping[str, Any]) -> Iterator[str]:
    rate, jitter = topic["rate_hz"], topic["jitter_ms"]
    yield "" if rate is None else _rounded(rate)
    yield "" if topic["median_pause_ms"] is None else _rounded(topic["median_pause_ms"])
    yield "" if jitter is None else _rounded(jitter["p95"])
    yield "" if jitter is None else _rounded(topic["longest_pause_s"])
    delay = topic["receive_minus_header_ms"]
    if _of_other_clock(delay):
        yield "other clock"
    else:
        yield "" if delay is None else f"{_rounded(delay['p50'])}, {_rounded(delay['max'])}"


def _of_other_clock(delay: Mapping[str, float] | None) -> bool:
    """Whether header stamps are so far from the receipt as only another clock explains."""
    return delay is not None and abs(delay["p50"]) > OTHER_CLOCK_MS


def _rounded(number: float) -> str:
    """Three digits, or all before the point, without an exponent where that is readable."""
    if number == 0 or 0.001 <= abs(number) < 1e6:
        return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
    return f"{number:.1e}"


@contextmanager
def reading_bar(label: str, size_bytes: int | None = None) -> Iterator[Callable[..., None]]:
    """Show, on a terminal, how much of a bag is read; the bar is gone when the block ends.

    Yields:
        What is to be called with how many bytes are done and, if that is news, of how many.
    """
    with Progress(
        TaskText(),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Terminal(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task(label, total=size_bytes)
        yield lambda done, total=None: bar.update(task, completed=done, total=total)
