"""Where a part of a recording is lost, the episode ends: nothing bridges it."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract
from dql_ros.convert.convert import ConvertOptions, Source, convert
from dql_ros.convert.recorded_episode import Cause, Interruption, Reason
from tests.ros.bag.bag_files import FLOAT, SECOND, Sent, write_mcap, write_ros1, write_sqlite
from tests.ros.convert.fed_assembler import Fed
from tests.ros.convert.test_episodes import arrival
from tests.ros.convert.test_episodes import contract as rules

MS = 10**6
COUNT = 400
LOST = Reason(Cause.LOST)


def contract() -> Contract:
    document = {
        "robot": "r",
        "rate_hz": 100.0,
        "observation": [
            {
                "topic": "/state",
                "type": FLOAT,
                "stamp": "receive",
                # Long enough to bridge whatever is lost here.
                "max_age_s": 10.0,
                "fields": [{"path": "data", "names": ["x"]}],
            }
        ],
        "action": [
            {
                "topic": "/command",
                "type": FLOAT,
                "max_age_s": 10.0,
                "fields": [{"path": "data", "names": ["u"], "low": -1, "high": 1000}],
            }
        ],
    }
    return Contract.model_validate(document)


MESSAGES = [
    Sent(topic, SECOND + number * 10 * MS + late, float(number))
    for number in range(COUNT)
    for topic, late in (("/state", 0), ("/command", MS))
]


def in_mcap(folder: Path) -> Path:
    path = write_mcap(folder / "x.mcap", MESSAGES, chunk_size=2000)
    with Bag(path) as bag:
        storage = bag._storages[0]
        middle = storage._ranges[len(storage._ranges) // 2]  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    content[middle.offset + middle.length - 20] ^= 0xFF
    path.write_bytes(content)
    return path


def in_ros1(folder: Path) -> Path:
    path = write_ros1(folder / "x.bag", MESSAGES, chunk_size=2000)
    with Bag(path) as bag:
        storage = bag._storages[0]
        middle = storage._ranges[len(storage._ranges) // 2]  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    # The length of the first record's header within the chunk.
    begin = content.index(b"op=\x02", middle.offset + 60)
    content[begin - 8 : begin - 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    return path


def in_sqlite(folder: Path) -> Path:
    path = write_sqlite(folder / "x.db3", MESSAGES)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE messages SET data = 7 WHERE id BETWEEN 390 AND 420")
    connection.close()
    return path


def in_a_file_of_three(folder: Path) -> Path:
    bag = folder / "run"
    bag.mkdir()
    for index in range(3):
        write_mcap(bag / f"run_{index}.mcap", MESSAGES[index * 300 : index * 300 + 300])
    (bag / "run_1.mcap").write_bytes(b"nothing")
    return bag


@pytest.mark.parametrize("damaged", [in_mcap, in_ros1, in_sqlite, in_a_file_of_three])
def test_an_episode_ends_at_what_is_lost(tmp_path: Path, damaged: Callable[[Path], Path]) -> None:
    bag = damaged(tmp_path)
    report = convert(Source(contract(), [bag]), tmp_path / "out", ConvertOptions(salvage=True))
    first, second = load_dataset(tmp_path / "out").episodes
    assert "a part of the recording is lost" in [row["ending"] for row in report["episodes"]]
    for episode in (first, second):
        numbers = episode.observations[:, 0]
        assert (np.diff(numbers) == 1).all()  # no tick without a state of its own
        np.testing.assert_array_equal(episode.actions[:, 0], numbers[:-1])
    lost = second.observations[0, 0] - first.observations[-1, 0]
    assert lost > 1
    assert report["totals"]["losses"] >= 1


def interrupted(
    spans: Sequence[tuple[float, float]], events: Sequence[tuple[float, str, float]]
) -> Fed:
    arrivals = [arrival(*event) for event in sorted(events, key=lambda event: event[0])]
    return Fed(
        rules(goal=True),
        arrivals,
        cuts=(7, 20),
        interruptions=[
            Interruption(round(start * 1e9), round(end * 1e9), LOST) for start, end in spans
        ],
    )


EVENTS = [
    (0.0, "goal", 7.0),
    *[(i / 10, topic, float(i)) for i in range(40) for topic in ("state", "command")],
]


def test_nothing_from_before_an_interruption_is_known_after_it() -> None:
    found = interrupted([(1.0, 2.0)], EVENTS)
    assert [each.observations[:, 0].tolist() for each in found.episodes] == [
        list(range(10)),
        list(range(20, 40)),
    ]
    assert [each.actions[:, 0].tolist() for each in found.episodes] == [
        list(range(9)),
        list(range(20, 39)),
    ]
    assert str(found.episodes[0].ending) == Cause.LOST.value
    assert all((each.observations[:, 1] == 7).all() for each in found.episodes)
    (span,) = found.skipped
    assert (span.start_ns, span.end_ns) == (900 * MS, 2000 * MS)
    assert span.reason == Cause.LOST.value


def test_an_instant_interrupts_like_a_span() -> None:
    found = interrupted([(1.0, 1.0), (2.05, 2.05)], EVENTS)
    starts = [each.observations[0, 0] for each in found.episodes]
    ends = [each.observations[-1, 0] for each in found.episodes]
    assert (starts, ends) == ([0, 10, 21], [9, 20, 39])


def test_an_interruption_after_the_end_changes_no_number() -> None:
    plain, found = interrupted([], EVENTS), interrupted([(5.0, 6.0)], EVENTS)
    for one, other in zip(plain.episodes, found.episodes, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)
        np.testing.assert_array_equal(one.actions, other.actions)
