"""Conversion of broken bags: an error of ours or a dataset, in bounded time and memory.

What is broken is drawn on three levels: what messages say, their bytes, and the bytes of files.
"""

from __future__ import annotations

import resource
import signal
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from dql_core.data.dataset import load_dataset
from dql_core.errors import BagError, DqlError
from dql_ros.contract import Contract
from dql_ros.convert.convert import ConvertOptions, Source, convert
from tests.ros.bag.written_bags import STORE, Recorded, Way, write_bag

pytestmark = pytest.mark.slow

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS
TIME_LIMIT_S = 20
MEMORY_BYTES = 3 << 30
JOINTS, ARRAY, POINT, FLAG = (
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "geometry_msgs/msg/Point",
    "std_msgs/msg/Bool",
)
WAYS = (
    Way(chunk_size=700),
    Way(chunk_size=900, compression="zstd"),
    Way(chunk_size=900, compression="lz4", is_indexed=False),
    Way(chunk_size=0),
    Way(files=2),
    Way("db3"),
    Way("db3", compression="message"),
    Way("db3", compression="file"),
)
LENGTHS = (
    0,
    1,
    255,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**32,
    2**40,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
TIMES = (0, 1, START_NS - 1, START_NS + 10**15, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (np.nan, np.inf, -np.inf, 1e308, -0.0, 5e-324)
NAMES = ((), ("a",), ("a", "a"), ("b", "a", "c"), ("",), ("a", "b" * 3000), ("ä", "b"))


def contract(**rules: Any) -> Contract:
    joints: dict[str, Any] = {
        "topic": "/joints",
        "type": JOINTS,
        "max_age_s": 0.2,
        "fields": [{"path": "position", "joints": ["a", "b"]}],
    }
    goal = {"topic": "/goal", "type": POINT, "stamp": "receive", "latched": True}
    command = {"topic": "/command", "type": ARRAY, "max_age_s": 0.2}
    document = {
        "robot": "r",
        "rate_hz": 50.0,
        "observation": [joints, {**goal, "fields": [{"path": "x"}]}],
        "action": [
            {**command, "fields": [{"path": "data", "indices": [0, 1], "low": -9.0, "high": 9.0}]}
        ],
        "episode": {
            "terminated": {"topic": "/end", "type": FLAG},
            "stop": {"topic": "/goal", "type": POINT, "path": "z"},
        },
    }
    patient = {**joints, "max_skew_s": None, "unnamed": "by_index"}
    if rules.pop("patient", False):
        document["observation"] = [patient, {**goal, "fields": [{"path": "y"}]}]
    return Contract.model_validate({**document, **rules})


CONTRACTS = (
    contract(),
    contract(patient=True, nonfinite="drop", beyond_bounds="widen"),
    contract(patient=True, nonfinite="split", tick="action"),
    contract(patient=True, nonfinite="drop", tick="action", beyond_bounds="refuse"),
    contract(reward={"topic": "/goal", "type": POINT, "path": "x"}),
)


def joint_state(stamp_ns: int, names: tuple[str, ...], position: list[float]) -> bytes:
    sec, nanosec = divmod(stamp_ns, SECOND_NS)
    stamp = STORE.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    header = STORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
    none = np.empty(0)
    message = STORE.types[JOINTS](
        header=header, name=list(names), position=np.array(position), velocity=none, effort=none
    )
    return bytes(STORE.serialize_cdr(message, JOINTS))


def command(values: list[float]) -> bytes:
    layout = STORE.types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    message = STORE.types[ARRAY](layout=layout, data=np.array(values, float))
    return bytes(STORE.serialize_cdr(message, ARRAY))


def point(x: float, z: float = 0.0) -> bytes:
    return bytes(STORE.serialize_cdr(STORE.types[POINT](x=x, y=0.0, z=z), POINT))


def flag(raised: bool) -> bytes:
    return bytes(STORE.serialize_cdr(STORE.types[FLAG](data=raised), FLAG))


def sound() -> list[Recorded]:
    """A recording of half a second that every contract here accepts."""
    messages = [Recorded("/goal", POINT, START_NS, point(1.0))]
    for index in range(24):
        now = START_NS + index * SECOND_NS // 50
        position = [float(index), 0.5]
        messages.append(Recorded("/joints", JOINTS, now, joint_state(now, ("b", "a"), position)))
        messages.append(Recorded("/command", ARRAY, now + 1, command([0.1 * index, -1.0])))
        messages.append(Recorded("/goal", POINT, now + 2, point(1.0)))
    messages.append(Recorded("/end", FLAG, START_NS + SECOND_NS // 3, flag(True)))
    return sorted(messages, key=lambda message: message.log_time_ns)


@st.composite
def broken_content(draw: DrawFn) -> list[Recorded]:
    """Messages of which some say what none should; sorted by time, as far as that is one."""
    messages = sound()
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(messages) - 1))
        chosen = messages[index]
        kind = draw(st.sampled_from(["time", "say", "say", "cut", "length", "flip", "drop"]))
        if kind == "drop":
            del messages[index : index + draw(st.integers(1, 40))]
            messages = messages or sound()
        elif kind == "time":
            time_ns = draw(st.sampled_from(TIMES) | st.integers(0, 2**63 - 1))
            messages[index] = chosen._replace(log_time_ns=time_ns)
        else:
            change = {"say": odd_words, "cut": cut, "length": wrong_length, "flip": flip}[kind]
            messages[index] = chosen._replace(cdr=change(draw, chosen))
    return sorted(messages, key=lambda message: message.log_time_ns)


def odd_words(draw: DrawFn, chosen: Recorded) -> bytes:
    """A valid message with values at the edges of their types."""
    number = draw(st.sampled_from(NUMBERS) | st.floats())
    if chosen.topic == "/joints":
        names = draw(st.sampled_from(NAMES))
        stamp = draw(st.sampled_from([*range(0, 4), chosen.log_time_ns, chosen.log_time_ns - 1]))
        stamp = draw(st.sampled_from([stamp, -(2**31) * SECOND_NS, (2**31 - 1) * SECOND_NS]))
        count = draw(st.sampled_from([len(names), 0, 1, 2, 700]))
        return joint_state(stamp, names, [number] * count)
    if chosen.topic == "/command":
        return command([number] * draw(st.sampled_from([0, 1, 2, 3, 500])))
    return flag(False) if chosen.topic == "/end" else point(number, draw(st.sampled_from([0, 1])))


def cut(draw: DrawFn, chosen: Recorded) -> bytes:
    size = draw(st.integers(0, len(chosen.cdr)))
    return chosen.cdr[:size] + bytes(draw(st.sampled_from([0, 0, 1, 8, 5000])))


def wrong_length(draw: DrawFn, chosen: Recorded) -> bytes:
    """One aligned 32-bit word of the message is a length out of all bounds."""
    word = draw(st.integers(0, max(len(chosen.cdr) // 4 - 1, 0)))
    length = struct.pack("<I", draw(st.sampled_from(LENGTHS)) & 0xFFFFFFFF)
    return chosen.cdr[: 4 * word] + length + chosen.cdr[4 * word + 4 :]


def flip(draw: DrawFn, chosen: Recorded) -> bytes:
    changed = bytearray(chosen.cdr or b"\0")
    changed[draw(st.integers(0, len(changed) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def break_file(draw: DrawFn, file: Path) -> None:
    """Change some bytes of a file, or its length."""
    content = bytearray(file.read_bytes())
    for _ in range(draw(st.integers(1, 3))):
        if not content:
            break
        at = draw(st.integers(0, len(content) - 1))
        kind = draw(st.sampled_from(["flip", "truncate", "remove", "repeat", "length"]))
        if kind == "flip":
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "truncate":
            del content[at:]
        elif kind == "remove":
            del content[at : at + draw(st.integers(1, 200))]
        elif kind == "repeat":
            piece = content[at : at + draw(st.integers(1, 400))]
            to = draw(st.integers(0, len(content)))
            content[to:to] = piece
        else:
            width, form = draw(st.sampled_from([(4, "<I"), (8, "<Q"), (4, ">I"), (2, ">H")]))
            length = draw(st.sampled_from(LENGTHS)) & (2 ** (8 * width) - 1)
            content[at : at + width] = struct.pack(form, length)
    file.write_bytes(content)


def break_record(draw: DrawFn, file: Path) -> None:
    """Give one record of an MCAP file another length or another kind."""
    content = bytearray(file.read_bytes())
    starts, at = [], 8
    while at + 9 <= len(content):
        starts.append(at)
        at += 9 + int(struct.unpack_from("<Q", content, at + 1)[0])
    start = draw(st.sampled_from(starts))
    if draw(st.booleans()):
        struct.pack_into("<Q", content, start + 1, draw(st.sampled_from(LENGTHS)))
    elif draw(st.booleans()):
        content[start] = draw(st.integers(0, 255))
    else:  # a number or a length within it
        size = int(struct.unpack_from("<Q", content, start + 1)[0])
        within = draw(st.integers(0, max(size - 4, 0))) + start + 9
        content[within : within + 4] = struct.pack(
            "<I", draw(st.sampled_from(LENGTHS)) & 2**32 - 1
        )
    file.write_bytes(content)


def break_row(draw: DrawFn, file: Path) -> None:
    """Put something else into one field of an sqlite table."""
    table, columns = draw(
        st.sampled_from(
            [
                ("messages", ("timestamp", "data", "topic_id", "id")),
                ("topics", ("name", "type", "serialization_format", "id")),
                ("message_definitions", ("encoding", "encoded_message_definition", "topic_type")),
                ("schema", ("schema_version", "ros_distro")),
            ]
        )
    )
    values = [None, "", "x", -1, 0, 2**62, 2**63 - 1, -(2**63), 0.5, b"", b"\0\1\0\0", "é" * 9]
    column, value = draw(st.sampled_from(columns)), draw(st.sampled_from(values))
    row = draw(st.integers(0, 80))
    with closing(sqlite3.connect(file)) as database, database:
        if draw(st.integers(0, 9)) == 0:
            database.execute(f"DROP TABLE {table}")
            return
        where = f"rowid IN (SELECT rowid FROM {table} LIMIT 1 OFFSET {row})"
        try:
            database.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))
        except sqlite3.Error:
            event("sqlite refused the value")


def break_metadata(draw: DrawFn, file: Path) -> None:
    """Replace a number or a word of the metadata.yaml beside a file."""
    path = file.with_name("metadata.yaml")
    words = path.read_text().split(" ")
    index = draw(st.integers(0, len(words) - 1))
    odd = ["-1", "x", "[]", "{}", "null", "9e9", "&a", "!!python/name:os.system", str(2**70), "'"]
    words[index] = draw(st.sampled_from(odd)) + "\n" * words[index].count("\n")
    path.write_text(" ".join(words))


@contextmanager
def bounded() -> Iterator[None]:
    """Interrupt what takes too long, and let what takes too much memory fail."""

    def stop(_signal: int, _frame: object) -> None:
        raise TooSlowError(f"not done in {TIME_LIMIT_S} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    signal.alarm(TIME_LIMIT_S)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


class TooSlowError(BaseException):
    """Not caught by anything that catches exceptions."""


def check(folder: Path, rules: Contract, bag: Path, salvage: bool) -> None:
    """Convert a bag to a sound dataset, or be told in one line why there is none."""
    out = folder / "out" / "set"
    out.parent.mkdir()
    report = refusal = None
    with bounded():
        try:
            report = convert(Source(rules, [bag]), out, ConvertOptions(salvage=salvage))
        except DqlError as error:
            refusal = error
    if report is None:
        event(type(refusal).__name__)
        assert "\n" not in str(refusal).strip() != ""
        assert not out.exists()
        return
    event("converted")
    episodes = load_dataset(out).episodes
    assert [path.name for path in out.parent.iterdir()] == ["set"], "nothing else is left"
    assert report["totals"]["episodes"] == len(episodes) > 0
    for episode in episodes:
        assert np.isfinite(episode.observations).all()
        assert np.isfinite(episode.actions).all()


def storage_files(bag: Path) -> list[Path]:
    return [file for file in sorted(bag.iterdir()) if file.name != "metadata.yaml"]


@pytest.mark.parametrize("rules", CONTRACTS, ids=range(len(CONTRACTS)))
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_sound_recording_converts(tmp_path: Path, rules: Contract, way: Way) -> None:
    bag = write_bag(tmp_path / "bag", sound(), way)
    report = convert(Source(rules, [bag]), tmp_path / "out")
    assert report["totals"]["transitions"] > 10


@settings(deadline=None, max_examples=100)
@given(
    broken_content(), st.sampled_from(CONTRACTS), st.sampled_from(["mcap", "db3"]), st.booleans()
)
def test_broken_messages(
    messages: list[Recorded], rules: Contract, storage: Any, salvage: bool
) -> None:
    if storage == "db3":  # its times have 63 bits
        messages = [m._replace(log_time_ns=min(m.log_time_ns, 2**63 - 1)) for m in messages]
    with tempfile.TemporaryDirectory() as name:
        bag = write_bag(Path(name) / "bag", messages, Way(storage))
        check(Path(name), rules, bag, salvage)


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(WAYS), st.booleans())
def test_broken_files(data: st.DataObject, way: Way, salvage: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        bag = write_bag(Path(name) / "bag", sound(), way)
        ways = [break_file]
        file = data.draw(st.sampled_from(storage_files(bag)))
        if way.storage == "mcap":
            ways.append(break_record)
        elif file.suffix == ".db3":
            ways += [break_row, break_row]
        if (bag / "metadata.yaml").is_file():
            ways.append(break_metadata)
        data.draw(st.composite(data.draw(st.sampled_from(ways)))(file))
        check(Path(name), data.draw(st.sampled_from(CONTRACTS)), bag, salvage)


@pytest.mark.parametrize("topic", ["/joints", "/command"])
def test_a_number_beyond_float32_counts_as_none(tmp_path: Path, topic: str) -> None:
    """The dataset would hold it as an infinity."""
    messages = sound()
    index = [message.topic for message in messages].index(topic, 20)
    huge = (
        command([1e39, 0.0])
        if topic == "/command"
        else joint_state(messages[index].log_time_ns, ("a", "b"), [1e39, 0.0])
    )
    messages[index] = messages[index]._replace(cdr=huge)
    bag = write_bag(tmp_path / "bag", messages)
    with pytest.raises(BagError, match=rf"{topic}: '.*' is 1e\+39; set 'nonfinite"):
        convert(Source(CONTRACTS[0], [bag]), tmp_path / "out")
    dropping = CONTRACTS[0].model_copy(update={"nonfinite": "drop", "beyond_bounds": "widen"})
    convert(Source(dropping, [bag]), tmp_path / "out")
    for episode in load_dataset(tmp_path / "out").episodes:
        assert np.isfinite(episode.observations).all()
        assert np.isfinite(episode.actions).all()


def test_nothing_is_left_in_the_temporary_folder_of_a_bag_that_cannot_be_salvaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = write_bag(tmp_path / "bag", sound(), Way("db3", compression="file"))
    (file,) = storage_files(bag)
    file.write_bytes(file.read_bytes()[:9])
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.raises(BagError, match=r"nothing of it can be read"):
        convert(Source(CONTRACTS[0], [bag]), tmp_path / "out", ConvertOptions(salvage=True))
    assert list((tmp_path / "temporary").iterdir()) == []
