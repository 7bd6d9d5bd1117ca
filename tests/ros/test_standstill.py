from dql_ros.standstill import GRACE_NS, Standstill


def test_a_clock_that_goes_is_never_behind() -> None:
    standstill = Standstill()
    assert [standstill.behind_ns(tick, 10 * GRACE_NS * tick) for tick in range(5)] == [0] * 5


def test_a_clock_that_stands_falls_behind_after_a_grace_until_it_moves() -> None:
    standstill = Standstill()
    assert standstill.behind_ns(7, 100) == 0
    assert standstill.behind_ns(7, 100 + GRACE_NS) == 0
    assert standstill.behind_ns(7, 100 + GRACE_NS + 5) == 5
    assert standstill.behind_ns(7, 100 + 3 * GRACE_NS) == 2 * GRACE_NS
    assert standstill.behind_ns(8, 100 + 3 * GRACE_NS) == 0
