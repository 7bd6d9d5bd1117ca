"""Header stamps: which are times, one by one and in arrays."""

from types import SimpleNamespace

import numpy as np
import pytest

from dql_ros.codecs.stamps import are_times, invalid_nanosec, shifted, stamp_of, stamps_of

SECOND = 10**9
SECONDS = np.array([0, 1, -(2**31), 2**31 - 1, 5, 5, 5, -1], np.int64)
NANOSECONDS = np.array([0, 1, 0, SECOND - 1, SECOND - 1, SECOND, 2**32 - 1, 4 * SECOND], np.int64)


def test_one_stamp_and_many_are_read_alike() -> None:
    many = stamps_of(SECONDS, NANOSECONDS).tolist()
    assert many == [
        stamp_of(SimpleNamespace(sec=int(sec), nanosec=int(nanosec)))
        for sec, nanosec in zip(SECONDS, NANOSECONDS, strict=True)
    ]
    assert many[:5] == [0, SECOND + 1, -(2**31) * SECOND, 2**31 * SECOND - 1, 6 * SECOND - 1]


def test_nanoseconds_that_are_no_part_of_a_second_make_no_time() -> None:
    stamps_ns = stamps_of(SECONDS, NANOSECONDS)
    assert are_times(stamps_ns).tolist() == [True] * 5 + [False] * 3
    assert [invalid_nanosec(int(stamp)) for stamp in stamps_ns] == [
        *[None] * 5,
        SECOND,
        2**32 - 1,
        4 * SECOND,
    ]


@pytest.mark.parametrize("shift_ns", [0, 3 * SECOND, -3 * SECOND])
def test_only_times_are_shifted(shift_ns: int) -> None:
    stamps_ns = stamps_of(SECONDS, NANOSECONDS)
    moved = shifted(stamps_ns, shift_ns)
    assert (moved - stamps_ns).tolist() == [shift_ns] * 5 + [0] * 3
