import numpy as np
import pytest

from dql_core.errors import ConfigError
from dql_ros.sim.faults import FaultyLink, LinkFaults, Vector, link_rng

MS = 1_000_000


def transfer(faults: LinkFaults, count: int, seed: int = 0) -> list[tuple[int, float, Vector]]:
    """Send one message each 10 ms and look each ms: (sent, arrived, values)."""
    link: FaultyLink[int] = FaultyLink(faults, link_rng(seed, 0))
    arrived = []
    for now_ms in range(10 * count + 1000):
        if now_ms % 10 == 0 and now_ms < 10 * count:
            link.send(np.full(3, float(now_ms)), now_ms, now_ms * MS)
        arrived += [(sent, at / MS, values) for at, values, sent in link.due(now_ms * MS)]
    return arrived


def test_without_faults_everything_arrives_at_once_and_unchanged() -> None:
    for index, (sent, arrived, values) in enumerate(transfer(LinkFaults(), 20)):
        assert sent == arrived == index * 10
        np.testing.assert_array_equal(values, np.full(3, float(sent)))


def test_latency_and_jitter_delay_within_their_bounds_and_keep_the_order() -> None:
    arrivals = transfer(LinkFaults(latency_ns=30 * MS, jitter_ns=50 * MS), 500)
    assert [sent for sent, _, _ in arrivals] == [10 * index for index in range(500)]
    delays = np.array([arrived - sent for sent, arrived, _ in arrivals])
    assert 30 <= delays.min() < 45
    assert 70 < delays.max() <= 80


def test_the_stated_share_is_lost() -> None:
    link: FaultyLink[None] = FaultyLink(LinkFaults(drop=0.3), link_rng(5, 0))
    for _ in range(10_000):
        link.send(np.zeros(1), None, 0)
    assert link.dropped == pytest.approx(3000, abs=150)
    assert sum(1 for _ in link.due(0)) == 10_000 - link.dropped


def test_noise_has_its_standard_deviation_and_leaves_the_senders_numbers_alone() -> None:
    link: FaultyLink[None] = FaultyLink(LinkFaults(noise=0.5), link_rng(5, 0))
    sent = np.zeros(20_000)
    link.send(sent, None, 0)
    ((_, values, _),) = link.due(0)
    assert values.std() == pytest.approx(0.5, rel=0.03)
    assert values.mean() == pytest.approx(0.0, abs=0.02)
    assert not sent.any()


def test_equal_seeds_give_equal_faults_and_other_links_others() -> None:
    faults = LinkFaults(latency_ns=5 * MS, jitter_ns=90 * MS, drop=0.2, noise=1.0)
    one, same, other = (transfer(faults, 50, seed) for seed in (1, 1, 2))
    assert [arrival[:2] for arrival in one] == [arrival[:2] for arrival in same]
    np.testing.assert_array_equal([v for _, _, v in one], [v for _, _, v in same])
    assert [arrival[:2] for arrival in one] != [arrival[:2] for arrival in other]
    assert link_rng(1, 0, 0).random() != link_rng(1, 0, 1).random()


@pytest.mark.parametrize("faults", [{"drop": 1.0}, {"drop": -0.1}, {"noise": -1.0}])
def test_faults_out_of_range_are_refused(faults: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"give 0 to below 1|must not be negative"):
        LinkFaults(**faults)  # type: ignore[arg-type]


def test_a_spread_is_drawn_once_an_episode_and_nothing_without_one() -> None:
    link: FaultyLink[int] = FaultyLink(LinkFaults(20 * MS, spread_ns=60 * MS), link_rng(0, 0))
    drawn = []
    for episode in range(200):
        begun_ns = episode * 1000 * MS
        link.begin_episode()
        for index in range(3):
            link.send(np.zeros(1), index, begun_ns + index * 10 * MS)
        due = link.due(begun_ns + 500 * MS)
        delays = {at_ns - begun_ns - index * 10 * MS for at_ns, _, index in due}
        assert len(delays) == 1
        drawn.append(delays.pop() / MS)
    assert 20 <= min(drawn) < 25
    assert 75 < max(drawn) <= 80
    rng = link_rng(0, 0)
    plain: FaultyLink[int] = FaultyLink(LinkFaults(20 * MS, noise=1.0), rng)
    plain.begin_episode()
    assert rng.random() == link_rng(0, 0).random()
