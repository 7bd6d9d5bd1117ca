"""Integers beyond 2**53 keep every count, offline and live alike, where they have an offset."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer

from dql_core.data.dataset import load_dataset
from dql_ros.codecs import StreamDecoder
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import BlockDecoder
from dql_ros.codecs.wide_integers import block_of
from dql_ros.contract import Contract, ObservationStream
from dql_ros.convert.convert import Source, convert
from tests.ros.bag.written_bags import STORE

SECOND_NS = 10**9
INT = "std_msgs/msg/Int64"
STEPS = [0, 1, 3, 2, -4, 7, 8, 100, 101]
STARTS = [0, 5, -7, 2**53 - 3, 2**60, 2**60 - 2, -(2**60) + 3, 2**63 - 200, 2**62 + 12345]


def message(msgtype: str, value: int) -> Any:
    if msgtype == "std_msgs/msg/Int64MultiArray":
        layout = STORE.types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
        return STORE.types[msgtype](layout=layout, data=np.array([9, value], np.int64))
    return STORE.types[msgtype](data=value)


def block(msgtype: str, values: list[int]) -> MessageBlock:
    payloads = [bytes(STORE.serialize_cdr(message(msgtype, v), msgtype)) for v in values]
    lengths = np.array([len(payload) for payload in payloads])
    times = np.arange(len(values))
    starts = np.cumsum(lengths) - lengths
    data = np.frombuffer(b"".join(payloads), np.uint8)
    return MessageBlock("/n", msgtype, times, data, starts, lengths)


def stream(msgtype: str, **more: Any) -> ObservationStream:
    selected = {"indices": [1]} if "Array" in msgtype else {}
    field = {"path": "data", "names": ["n"], **selected, **more}
    document = {"topic": "/n", "type": msgtype, "stamp": "receive", "fields": [field]}
    return ObservationStream.model_validate(document)


def decoded(rule: ObservationStream, values: list[int]) -> np.ndarray:
    """The numbers, which are the same to the bit as a block and one by one."""
    decoder = BlockDecoder(rule, STORE)
    found = decoder.decode(block(rule.type, values)).values[:, 0]
    assert decoder.bulk == len(values)
    alone = StreamDecoder(rule)
    singly = np.array([alone(message(rule.type, value))[0] for value in values])
    assert found.tobytes() == singly.tobytes()
    return found


def fits(start: int, msgtype: str) -> bool:
    kind = np.iinfo(np.uint64 if "UInt" in msgtype else np.int64)
    return kind.min <= start + min(STEPS) and start + max(STEPS) <= kind.max


@pytest.mark.parametrize(
    ("start", "msgtype"),
    [
        (start, msgtype)
        for start in (*STARTS, 2**63 + 5, 2**64 - 200)
        for msgtype in (INT, "std_msgs/msg/UInt64", "std_msgs/msg/Int64MultiArray")
        if fits(start, msgtype)
    ],
)
def test_counts_from_the_first_are_exact(start: int, msgtype: str) -> None:
    values = [start + step for step in STEPS]
    numbers = decoded(stream(msgtype, offset="first"), values)
    assert (numbers - numbers[0]).tolist() == [value - values[0] for value in values]
    if abs(start) < 2**52:
        assert numbers.tolist() == values  # as without an offset


@pytest.mark.parametrize("start", [2**53, 2**60, 2**60 - 2**53, -(2**61)])
def test_a_whole_number_is_subtracted_exactly(start: int) -> None:
    values = [start + step for step in STEPS]
    numbers = decoded(stream(INT, offset=float(start), scale=0.5), values)
    assert numbers.tolist() == [step / 2 for step in STEPS]


def test_what_is_far_apart_does_not_wrap() -> None:
    values = [2**62, -(2**63), 2**63 - 1, 0]
    numbers = decoded(stream(INT, offset=float(2**62)), values)
    assert numbers.tolist() == pytest.approx([0.0, -(2.0**63) - 2.0**62, 2.0**62, -(2.0**62)])


def test_numbers_of_other_types_are_as_before() -> None:
    for number in (0.1, -0.0, 1e300, 2.0**60):
        plain = StreamDecoder(stream("std_msgs/msg/Float64", offset=float(2**60)))
        assert plain(STORE.types["std_msgs/msg/Float64"](data=number))[0] == number - 2.0**60
        first = StreamDecoder(stream("std_msgs/msg/Float64", offset="first"))
        found = first(STORE.types["std_msgs/msg/Float64"](data=number))
        assert found.tobytes() == np.float64(number).tobytes()


def test_blocks_are_the_same_for_neighbours_and_nothing_for_small_numbers() -> None:
    assert block_of(2**60 + 1) == block_of(2**60 + 10**15) == 2**60
    assert block_of(-(2**60) - 1) == -(2**60)
    assert block_of(2**52 - 1) == block_of(-(2**52) + 1) == 0


def recorded(path: Path, start: int) -> Path:
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema("std_msgs/msg/Int64", "ros2msg", b"int64 data")
        count = writer.register_channel("/n", "cdr", schema)
        for k in range(40):
            payload = bytes(STORE.serialize_cdr(message(INT, start + k), INT))
            writer.add_message(count, (10 + k) * SECOND_NS // 10, payload, 0)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    return path


def contract(**more: Any) -> Contract:
    observed = {"topic": "/n", "type": INT, "stamp": "receive"}
    commanded = {"topic": "/n", "type": INT}
    bounds = {"low": -1e19, "high": 1e19}
    return Contract.model_validate(
        {
            "robot": "r",
            "rate_hz": 10.0,
            "observation": [{**observed, "fields": [{"path": "data", "names": ["n"], **more}]}],
            "action": [{**commanded, "fields": [{"path": "data", "names": ["u"], **bounds}]}],
        }
    )


def test_a_dataset_has_every_count_or_the_report_says_what_is_lost(tmp_path: Path) -> None:
    bag = recorded(tmp_path / "x.mcap", 2**60 + 5)
    convert(Source(contract(offset="first"), [bag]), tmp_path / "first")
    (episode,) = load_dataset(tmp_path / "first").episodes
    assert episode.observations[:, 0].tolist() == list(range(40))
    convert(Source(contract(offset=float(2**60)), [bag]), tmp_path / "number")
    (episode,) = load_dataset(tmp_path / "number").episodes
    assert episode.observations[:, 0].tolist() == list(range(5, 45))
    report = convert(Source(contract(), [bag]), tmp_path / "without")
    (remark,) = [each for each in report["remarks"] if each.startswith("n: float32 blurs it")]
    assert "these are already rounded to the 2.6e+02 that float64 resolves there" in remark
    assert not any("never changes" in each for each in report["remarks"])
    assert "set 'offset: first' or 'offset: 1152921504606846976'" in remark
