"""Log times beside the order in which messages were written: where the clock was set back."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from dql_ros.bag.reader import Bag, ClockStep
from tests.ros.bag.bag_files import (
    SECOND,
    Sent,
    write_mcap,
    write_metadata,
    write_ros1,
    write_sqlite,
)

MS = 10**6
Write = Callable[[Path, Sequence[Sent]], Path]
WRITERS: dict[str, Write] = {
    "mcap": lambda folder, sent: write_mcap(folder / "x.mcap", sent),
    "mcap in chunks": lambda folder, sent: write_mcap(folder / "x.mcap", sent, chunk_size=100),
    "mcap without chunks": lambda folder, sent: write_mcap(
        folder / "x.mcap", sent, use_chunking=False
    ),
    "sqlite": lambda folder, sent: write_sqlite(folder / "x.db3", sent),
    "ros1": lambda folder, sent: write_ros1(folder / "x.bag", sent),
    "ros1 in chunks": lambda folder, sent: write_ros1(folder / "x.bag", sent, chunk_size=200),
}


def steady(first: int, count: int, start_ms: int, pause_ms: int = 100) -> list[Sent]:
    """State and, 10 ms later, command; each value says which message it is."""
    return [
        Sent(topic, SECOND + (start_ms + index * pause_ms + late) * MS, float(first + index))
        for index in range(count)
        for topic, late in (("/state", 0), ("/command", 10))
    ]


def steps(path: Path, tolerance_ns: int = MS) -> list[ClockStep]:
    with Bag(path) as bag:
        for _ in bag.batches(frozenset(bag.topics)):
            pass
        return bag.clock_steps(tolerance_ns)


@pytest.mark.parametrize("back_ms", [350, 3000, 3 * 3_600_000])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_clock_that_was_set_back_is_found_where_it_was(
    tmp_path: Path, writer: str, back_ms: int
) -> None:
    start_ms = 4 * 3_600_000
    sent = [*steady(0, 30, start_ms), *steady(30, 10, start_ms + 3000 - back_ms)]
    (step,) = steps(WRITERS[writer](tmp_path, sent))
    assert (step.topic, step.number) == ("/state", 31)
    assert step.before_ns - step.after_ns == (back_ms - 100) * MS


@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_written_later_comes_later_with_times_that_go_on(
    tmp_path: Path, writer: str
) -> None:
    sent = [*steady(0, 30, 10_000), *steady(30, 10, 10_000), *steady(40, 5, 9000)]
    path = WRITERS[writer](tmp_path, sent)
    found = steps(path)
    assert len(found) == 2
    with Bag(path) as bag:
        seen: list[tuple[int, str, int]] = []
        promised = -(2**63)
        for batch in bag.batches(frozenset(bag.topics), steps=found):
            for block in batch.blocks:
                assert (block.log_times_ns >= promised).all()
                seen += [
                    (time, block.topic, block.shift_ns) for time in block.log_times_ns.tolist()
                ]
            promised = batch.complete_until_ns
    assert len(seen) == len(sent)
    order = [topic for _, topic, _ in sorted(seen)]
    assert order == [each.topic for each in sent]
    times = [time for time, _, _ in sorted(seen)]
    pauses = {later - earlier for earlier, later in pairwise(times)}
    assert pauses == {10 * MS, 90 * MS, 1}  # 1 ns where the clock was set back
    assert len({shift for _, _, shift in seen}) == 3


def test_the_first_by_the_new_clock_may_be_of_a_slower_topic(tmp_path: Path) -> None:
    """/slow comes right after the step; /state shows it one message later."""
    sent = [*steady(0, 30, 10_000), Sent("/slow", SECOND + 10_000 * MS, 0.0)]
    sent += [Sent("/slow", SECOND + (13_000 - 350) * MS, 1.0), *steady(30, 10, 13_000 - 345)]
    path = write_mcap(tmp_path / "x.mcap", sent[:60] + sent[61:])
    (step,) = steps(path)
    assert step.topic == "/state"
    with Bag(path) as bag:
        blocks = [
            b for batch in bag.batches(frozenset(bag.topics), steps=[step]) for b in batch.blocks
        ]
    assert {b.topic for b in blocks if b.shift_ns} == {"/slow", "/state", "/command"}


@pytest.mark.parametrize("writer", WRITERS)
def test_channels_that_each_ascend_are_in_order(tmp_path: Path, writer: str) -> None:
    """As in a bag that was merged or rewritten, one topic after the other."""
    sent = sorted(steady(0, 40, 10_000), key=lambda each: each.topic)
    path = WRITERS[writer](tmp_path, sent)
    assert steps(path, tolerance_ns=0) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_threads_of_a_recorder_may_overtake_each_other(tmp_path: Path, writer: str) -> None:
    sent = steady(0, 40, 10_000)
    sent[32] = Sent("/state", sent[30].time_ns - MS // 2, 16.0)
    path = WRITERS[writer](tmp_path, sent)
    assert steps(path) == []
    assert len(steps(path, tolerance_ns=0)) == 1


def test_what_a_recorder_repeats_says_nothing_of_its_clock(tmp_path: Path) -> None:
    sent = steady(0, 40, 10_000)
    sent[40:40] = [Sent("/goal", SECOND + 10_000 * MS + late, 0.0) for late in (50, 0)]
    path = write_mcap(tmp_path / "x.mcap", [*sent, Sent("/goal", SECOND + 1, 0.0)])
    assert [step.topic for step in steps(path)] == ["/goal"]
    with Bag(path) as bag:
        for _ in bag.batches(frozenset(bag.topics)):
            pass
        assert bag.clock_steps(MS, {"/goal"}) == []


def test_files_that_overlap_are_one_recording_whose_clock_was_set_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    first, second = steady(0, 30, 10_000), steady(30, 10, 12_000)
    write_mcap(folder / "run_0.mcap", first)
    write_mcap(folder / "run_1.mcap", second)
    write_metadata(folder, [*first, *second], ["run_0.mcap", "run_1.mcap"])
    (step,) = steps(folder)
    assert (step.topic, step.number, step.place.file) == ("/state", 31, 1)


def test_files_in_another_order_than_their_times_are_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    first, second = steady(0, 30, 20_000), steady(30, 10, 10_000)
    write_mcap(folder / "run_0.mcap", first)
    write_mcap(folder / "run_1.mcap", second)
    write_metadata(folder, [*first, *second], ["run_0.mcap", "run_1.mcap"])
    assert steps(folder) == []
