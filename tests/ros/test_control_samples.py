from pathlib import Path

import numpy as np
import pytest

from benchmarks.control.samples import (
    SAMPLES_VARIABLE,
    SETTLING_NS,
    SampleLog,
    column,
    jitter_ns,
    load,
    missed,
    p99_of_all_ms,
    spread_ms,
)

PERIOD_NS = 10_000_000


@pytest.fixture(name="path")
def _path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "samples.npy"
    monkeypatch.setenv(SAMPLES_VARIABLE, str(path))
    return path


def test_rows_come_back_without_those_of_the_start_and_after_the_end(path: Path) -> None:
    log = SampleLog()
    begun_ns = range(0, 3 * SETTLING_NS, PERIOD_NS)
    for tick_ns in begun_ns:
        log.add(tick_ns)
    log.save()

    rows = load(path, seconds=1.0)

    kept = [ns for ns in begun_ns if SETTLING_NS <= ns < 2 * SETTLING_NS]
    assert column(rows, "begun").tolist() == kept


def test_a_latency_belongs_to_the_last_tick_and_nothing_is_made_up_for_the_others(
    path: Path,
) -> None:
    log = SampleLog()
    log.add(SETTLING_NS, age_ns=1)
    log.add(2 * SETTLING_NS, age_ns=2)
    log.add_latency(7)
    log.add(2 * SETTLING_NS + 1, running=0)
    log.save()

    rows = load(path, seconds=10.0)

    assert column(rows, "latency").tolist() == [7]
    assert column(rows, "age").tolist() == [2]
    assert column(rows, "inference").size == 0
    assert spread_ms("inference", column(rows, "inference")) == {}
    assert column(rows, "running").tolist() == [1, 0]


@pytest.mark.parametrize("left_out", [0, 1, 3])
def test_ticks_that_did_not_come_are_counted(path: Path, left_out: int) -> None:
    late_ns = np.random.default_rng(0).integers(0, PERIOD_NS // 10, 100)
    log = SampleLog()
    log.add(0)
    for index in (0, *range(1 + left_out, 100)):
        log.add(SETTLING_NS + index * PERIOD_NS + int(late_ns[index]))
    log.save()

    rows = load(path, seconds=10.0)

    assert missed(rows, PERIOD_NS) == left_out
    assert jitter_ns(rows, PERIOD_NS).max() >= left_out * PERIOD_NS - PERIOD_NS // 10


@pytest.mark.parametrize(("unanswered", "expected_ms"), [(0, 1.0), (9, 1.0), (11, None)])
def test_a_tick_that_was_never_answered_counts_as_endless(
    path: Path, unanswered: int, expected_ms: float | None
) -> None:
    log = SampleLog()
    log.add(0)
    for index in range(1000):
        log.add(SETTLING_NS + index)
        if index >= unanswered:
            log.add_latency(1_000_000)
    log.save()

    assert p99_of_all_ms(load(path, seconds=10.0), "latency") == expected_ms
