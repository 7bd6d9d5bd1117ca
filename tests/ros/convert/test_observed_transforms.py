"""Poses out of tf's tree: converted, live and by plain matrices they are the same."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dql_core.data.dataset import load_dataset
from dql_core.errors import BagError, ContractError, DqlError, SimulationError
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract, ObservationStream
from dql_ros.control.observer import Observer
from dql_ros.convert.bag_episodes import read_bag_episodes
from dql_ros.convert.convert import Source, convert
from dql_ros.convert.recorded_episode import RecordedEpisode
from dql_ros.sim.episodes import open_environment
from dql_ros.sros2 import policy_document
from dql_ros.tools.contract_check import check_bag
from tests.cli_process import dql
from tests.ros.bag.messages import messages_of
from tests.ros.broadcasting import (
    START_NS,
    Sent,
    commands,
    contract,
    known_at,
    messages,
    observed,
    pose,
    pose_of,
)
from tests.ros.untrained import untrained_bundle

Blank = Callable[[str], Any]
Record = Callable[..., Path]
MS = 1_000_000
POSE = [0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 1.0]


def robot_on_a_map(rng: np.random.Generator, *, pauses: bool = True) -> list[Sent]:
    """What a mobile manipulator's nodes broadcast, each at its own rate, late and unevenly.

    Its camera's transform is known late, and the static ones come again, as a split recording or
    another node that starts makes them.
    """
    static = [
        Sent("base_link", "arm", 0, pose(rng), is_static=True),
        Sent("base_link", "mast", 5, pose(rng), is_static=True),
        Sent("mast", "camera", START_NS, pose(rng), is_static=True),
    ]
    sent = [
        Sent(each.parent, each.child, each.stamp_ns, each.numbers, START_NS + after_ns, True)
        for each in static
        for after_ns in (5 * MS if each.child != "camera" else 700 * MS, 4000 * MS)
    ]
    nodes = [
        (["map>odom"], 100 * MS, 60 * MS),
        (["odom>base_link"], 33 * MS, 9 * MS),
        (["arm>/link1", "link1>tool0", "link1>finger"], 20 * MS, 12 * MS),
        (["world>person"], 50 * MS, 1 * MS),  # of another tree
    ]
    for edges, period_ns, delay_ns in nodes:
        stamp_ns = START_NS
        while stamp_ns < START_NS + 8_000 * MS:
            stamp_ns += int(period_ns * rng.uniform(0.5, 1.5))
            if pauses and rng.random() < 0.01:
                stamp_ns += 400 * MS
            arrived_ns = stamp_ns + 1000 * int(rng.integers(delay_ns // 1000))
            for edge in edges:
                parent, child = edge.split(">")
                sent.append(Sent(parent, child, stamp_ns, pose(rng), arrived_ns))
    return sorted(sent, key=lambda each: each.arrived_ns)


def plain(sent: list[Sent]) -> list[Sent]:
    """With the names of frames as tf2 has them."""
    return [
        Sent(each.parent, each.child.lstrip("/"), *vars_of(each)) if "/" in each.child else each
        for each in sent
    ]


def vars_of(each: Sent) -> tuple[int, Any, int, bool]:
    return each.stamp_ns, each.numbers, each.arrived_ns, each.is_static


CONTRACT = Contract.model_validate(
    contract(
        observed("map", "tool0", max_age_s=0.25),
        observed("camera", "finger", max_age_s=0.1, name="seen"),
    )
)


def recorded(blank: Blank, record: Record, folder: Path, sent: list[Sent]) -> Path:
    times_ns = range(START_NS, START_NS + 8_000 * MS, 30 * MS)
    found = messages(blank, sent) + commands(blank, times_ns)
    # A recorder writes in the order of arrival, which is not that of the stamps.
    return record(folder, sorted(found, key=lambda each: each[2]))


def episodes_of(bag: Path, rules: Contract) -> list[RecordedEpisode]:
    found: list[RecordedEpisode] = []
    with Bag(bag) as opened:
        read_bag_episodes(opened, rules, "/", found.append)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_bag_live_and_plain_matrices_give_the_same_poses(
    tmp_path: Path, blank: Blank, record: Record, seed: int
) -> None:
    sent = robot_on_a_map(np.random.default_rng(seed))
    bag = recorded(blank, record, tmp_path / "bag", sent)
    convert(Source(CONTRACT, [bag]), tmp_path / "out")
    written = [row for e in load_dataset(tmp_path / "out").episodes for row in e.observations]
    episodes = episodes_of(bag, CONTRACT)
    ticks = [int(tick) for episode in episodes for tick in episode.ticks_ns]
    assert len(ticks) == len(written) > 60
    assert len(episodes) > 1, "some transforms pause for longer than they may"
    assert ticks[0] >= START_NS + 700 * MS, "nothing is known before the camera's place is"
    firsts = {int(episode.ticks_ns[0]) for episode in episodes}
    observer, inputs = Observer(CONTRACT), CONTRACT.observed_topics
    with Bag(bag) as opened:
        arrivals = iter(messages_of(opened, frozenset({"/tf", "/tf_static"})))
    upcoming = next(arrivals, None)
    for tick, row in zip(ticks, written, strict=True):
        if tick in firsts:
            observer.begin_episode()
        while upcoming is not None and upcoming.log_time_ns <= tick:
            for each in inputs:
                if each.topic == upcoming.topic:
                    at_ns = upcoming.log_time_ns
                    observer.receive(each.key, upcoming.message, at_ns, at_ns)
            upcoming = next(arrivals, None)
        seen = observer.at(tick, tick).values
        assert seen is not None
        assert seen.tobytes() == row.tobytes()
        known = known_at(plain(sent), tick)
        for part, (child, parent) in (
            (slice(0, 9), ("tool0", "map")),
            (slice(9, 18), ("finger", "camera")),
        ):
            matrix = pose_of(known, child, parent)
            expected = [*matrix[:3, 3], *matrix[:3, 0], *matrix[:3, 1]]
            np.testing.assert_allclose(row[part], expected, atol=2e-6)


def test_the_oldest_transform_in_the_chain_that_moves_is_the_poses_age(
    tmp_path: Path, blank: Blank, record: Record
) -> None:
    """At each tick, also where the episode has ended for it."""
    sent = robot_on_a_map(np.random.default_rng(9))
    observer = Observer(CONTRACT)
    waiting = list(sent)
    for tick in range(START_NS, START_NS + 8_000 * MS, 10 * MS):
        while waiting and waiting[0].arrived_ns <= tick:
            each = waiting.pop(0)
            key = "tool0 in map" + (", static" if each.is_static else "")
            message = messages(blank, [each])[0][3]
            observer.receive(key, message, each.arrived_ns, each.arrived_ns)
        known = known_at(plain(sent), tick)
        chain = ["odom", "base_link", "arm", "link1", "tool0"]
        found = observer.at(tick, tick)
        if not set(chain) <= known.keys():
            assert found.ages_ns["tool0 in map"] is None
            continue
        oldest_ns = max(tick - known[f].stamp_ns for f in chain if not known[f].is_static)
        assert found.ages_ns["tool0 in map"] == oldest_ns
        assert ("tool0 in map" in found.missing) == (oldest_ns > 250 * MS)


def test_static_transforms_alone_have_no_age(tmp_path: Path, blank: Blank, record: Record) -> None:
    rng = np.random.default_rng(1)
    sent = [
        Sent("mast", "camera", 0, pose(rng), START_NS + 10 * MS, True),
        Sent("base_link", "mast", 0, pose(rng), START_NS, True),
    ]
    rules = Contract.model_validate(contract(observed("camera", "base_link", max_age_s=0.05)))
    bag = recorded(blank, record, tmp_path / "bag", sent)
    (episode,) = episodes_of(bag, rules)
    assert episode.ticks_ns[-1] - episode.ticks_ns[0] > 7_000 * MS
    expected = pose_of(known_at(sent, START_NS + 10 * MS), "base_link", "camera")
    np.testing.assert_allclose(episode.observations[-1, :3], expected[:3, 3], atol=1e-12)


def arm(count: int = 100, *, shift_ns: int = 0) -> list[Sent]:
    """A tool below a base that never moves."""
    static = Sent("base", "mount", 0, POSE, START_NS, True)
    stamps = [START_NS + index * 20 * MS for index in range(1, count + 1)]
    return [static, *(Sent("mount", "tool", each + shift_ns, POSE, each) for each in stamps)]


ARM = contract(observed("base", "tool"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            [Sent("gripper", "tool", START_NS + 900 * MS, POSE, START_NS + 901 * MS)],
            r"0\.901 s from its start: /tf: the frame 'tool' is in 'gripper' here and was in "
            r"'mount' before: .*; let one do so, or observe a frame that keeps its parent",
        ),
        (
            [Sent("base", "mount", START_NS + 900 * MS, POSE, START_NS + 901 * MS)],
            r"0\.901 s from its start: /tf: 'mount' in 'base' is broadcast as static and as mov",
        ),
        (
            [Sent("base", "mount", 0, [0.0, *POSE[1:]], START_NS + 901 * MS, True)],
            r"0\.901 s from its start: /tf: the static transform of 'mount' in 'base' changes: ",
        ),
        (
            [
                Sent("mount", "tool", START_NS + (900 + i) * MS, [5.0, *POSE[1:]], at_ns)
                for i in range(0, 200, 20)
                for at_ns in (START_NS + (900 + i) * MS + 5 * MS,)
            ],
            r"0\.9\d\d s from its start: /tf: two nodes broadcast 'tool' in 'mount' and disagree",
        ),
        (
            [Sent("mount", "tool", START_NS + 500 * MS, [np.nan, *POSE[1:]], START_NS + 501 * MS)],
            r"0\.501 s from its start: /tf: the transform of 'tool' in 'mount' is no pose: nan, ",
        ),
        (
            [Sent("mount", "tool", START_NS + 500 * MS, [0.0] * 7, START_NS + 501 * MS)],
            r"0\.501 s from its start: /tf: .* is no pose: 0, 0, 0, 0, 0, 0, 0; set 'nonfinite: ",
        ),
        (
            [Sent("mount", "tool", START_NS + 900 * MS, POSE, START_NS + 501 * MS)],
            r"0\.501 s from its start: /tf: 'tool' in 'mount': message 26: the header stamp is "
            r"0\.399 s ahead of its receipt",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, blank: Blank, record: Record, more: list[Sent], said: str
) -> None:
    rules = Contract.model_validate(ARM)
    bag = recorded(blank, record, tmp_path / "bag", [*arm(), *more])
    with pytest.raises(BagError, match=said) as caught:
        convert(Source(rules, [bag]), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("parent", "child", "said"),
    [
        (
            "base",
            "tool1",
            r"/tf: no frame 'tool1' \(did you mean 'tool'\?\) is broadcast so far; ",
        ),
        ("base", "island", r"/tf: nothing connects 'island', below 'sea', with 'base', below 'b"),
        ("base", "egg", r"/tf: the frames go round in a loop, 'egg' in 'hen' in 'egg'; one of "),
    ],
)
def test_why_a_recording_has_no_such_pose_is_said(
    tmp_path: Path, blank: Blank, record: Record, parent: str, child: str, said: str
) -> None:
    others = [
        Sent(above, below, START_NS + MS, POSE, START_NS + MS)
        for above, below in (("sea", "island"), ("hen", "egg"), ("egg", "hen"))
    ]
    bag = recorded(blank, record, tmp_path / "bag", [*arm(), *others])
    rules = Contract.model_validate(contract(observed(parent, child)))
    with pytest.raises(BagError, match=said):
        convert(Source(rules, [bag]), tmp_path / "out")


def test_what_is_wrong_with_transforms_elsewhere_does_no_harm(
    tmp_path: Path, blank: Blank, record: Record
) -> None:
    """As a localisation that stamps ahead, or a cup that is taken from the table."""
    at_ns = [START_NS + index * 50 * MS for index in range(100)]
    others = [
        *(Sent("map", "base", each + 300 * MS, POSE, each) for each in at_ns),
        *(Sent("map" if each % 3 else "tool", "cup", each, POSE, each) for each in at_ns),
        *(Sent("tool", "torch", each, [np.nan] * 7, each) for each in at_ns),
    ]
    rules = Contract.model_validate(ARM)
    alone = episodes_of(recorded(blank, record, tmp_path / "alone", arm()), rules)
    found = episodes_of(recorded(blank, record, tmp_path / "all", [*arm(), *others]), rules)
    assert [e.observations.tobytes() for e in found] == [e.observations.tobytes() for e in alone]
    assert len(alone) == 1


def test_a_pose_that_is_no_number_splits_an_episode_where_the_contract_says_so(
    tmp_path: Path, blank: Blank, record: Record
) -> None:
    nothing = Sent("mount", "tool", START_NS + 905 * MS, [0.0] * 7, START_NS + 906 * MS)
    bag = recorded(blank, record, tmp_path / "bag", [*arm(), nothing])
    rules = Contract.model_validate({**ARM, "nonfinite": "drop"})
    (episode,) = episodes_of(bag, rules)
    assert np.isfinite(episode.observations).all()
    rules = Contract.model_validate({**ARM, "rate_hz": 200, "nonfinite": "split"})
    first, _ = episodes_of(bag, rules)
    assert START_NS + 890 * MS < first.ticks_ns[-1] < START_NS + 910 * MS


def test_a_clock_that_was_set_splits_an_episode_where_the_contract_says_so(
    tmp_path: Path, blank: Blank, record: Record
) -> None:
    """Its stamps go 0.8 s back at the fortieth, while the receipts go on."""
    sent = [
        each
        if each.is_static or index < 40
        else Sent(each.parent, each.child, each.stamp_ns - 800 * MS, POSE, each.arrived_ns)
        for index, each in enumerate(arm())
    ]
    bag = recorded(blank, record, tmp_path / "bag", sent)
    with pytest.raises(BagError, match=r"/tf: 'tool' in 'mount': message 40: .* before that of"):
        episodes_of(bag, Contract.model_validate(ARM))
    rules = Contract.model_validate(
        {**contract(observed("base", "tool", max_age_s=2.0)), "clock": "split"}
    )
    first, second = episodes_of(bag, rules)
    assert first.ticks_ns[-1] < START_NS + 800 * MS <= second.ticks_ns[0]


def test_a_recording_needs_only_one_of_the_two_topics(
    tmp_path: Path, blank: Blank, record: Record
) -> None:
    rules = Contract.model_validate(contract(observed("mount", "tool")))
    moving = [each for each in arm() if not each.is_static]
    assert len(episodes_of(recorded(blank, record, tmp_path / "moving", moving), rules)) == 1
    bag = record(tmp_path / "none", commands(blank, [START_NS]))
    with pytest.raises(BagError, match=r"no topic /tf, which the contract needs as observation"):
        episodes_of(bag, rules)


def test_the_node_says_what_the_conversion_says(blank: Blank) -> None:
    observer = Observer(Contract.model_validate(ARM))
    key = "tool in base"
    assert "no frame 'tool' and no frame 'base' is broadcast" in observer.problem(key)
    for each in arm(10):
        part = key + (", static" if each.is_static else "")
        stamp_ns = observer.receive(
            part, messages(blank, [each])[0][3], each.arrived_ns, each.arrived_ns
        )
        assert stamp_ns == (None if each.is_static else each.stamp_ns)
    now_ns = START_NS + 200 * MS
    assert observer.problem(key) == ""
    assert observer.at(now_ns, now_ns).missing == ()
    ahead = Sent("mount", "tool", now_ns + 400 * MS, POSE)
    with pytest.raises(ContractError, match=r"^/tf: the header stamp is 0\.400 s ahead of this n"):
        observer.receive(key, messages(blank, [ahead])[0][3], now_ns, now_ns)
    assert observer.at(now_ns, now_ns).missing == ()
    torn = Sent("gripper", "tool", now_ns, POSE)
    with pytest.raises(ContractError, match=r"^/tf: the frame 'tool' is in 'gripper' here and "):
        observer.receive(key, messages(blank, [torn])[0][3], now_ns, now_ns)
    assert observer.at(now_ns, now_ns).missing == (key,), "nobody knows which is right"
    assert observer.problem(key).startswith("the frame 'tool' is in 'gripper' here and was in ")
    assert observer.arrivals[key].refused == 2


def test_what_is_wrong_elsewhere_is_nothing_to_a_node(blank: Blank) -> None:
    """Neither before the chain is known nor after."""
    observer = Observer(Contract.model_validate(ARM))
    key, now_ns = "tool in base", START_NS
    ahead = Sent("map", "base", now_ns + 900 * MS, POSE)
    assert observer.receive(key, messages(blank, [ahead])[0][3], now_ns, now_ns) is None
    for each in arm(3):
        part = key + (", static" if each.is_static else "")
        now_ns = each.arrived_ns
        message = messages(blank, [each])[0][3]
        if not each.is_static:
            message.transforms.append(messages(blank, [ahead])[0][3].transforms[0])
        observer.receive(part, message, now_ns, now_ns)
    assert observer.arrivals[key].refused == 0
    assert observer.at(now_ns, now_ns).missing == ()


def test_a_clock_that_was_set_back_leaves_what_is_static(blank: Blank) -> None:
    observer = Observer(Contract.model_validate(ARM))
    key = "tool in base"
    for each in arm(10):
        part = key + (", static" if each.is_static else "")
        observer.receive(part, messages(blank, [each])[0][3], each.arrived_ns, each.arrived_ns)
    now_ns = START_NS - 500 * MS
    observer.clock_went_back(now_ns)
    assert observer.at(now_ns, now_ns).missing == (key,)
    again = Sent("mount", "tool", now_ns, [1.0, *POSE[1:]])
    observer.receive(key, messages(blank, [again])[0][3], now_ns, now_ns)
    found = observer.at(now_ns, now_ns).values
    assert found is not None
    assert found[0] == np.float32(1.1)


def test_a_policy_of_one_frame_refuses_another() -> None:
    flange, gripper = (
        Contract.model_validate(
            contract(
                {
                    **observed("base", child),
                    "fields": [{"path": "translation.x", "names": ["reach"], "unit": "m"}],
                }
            )
        ).policy_spec()
        for child in ("flange", "gripper")
    )
    with pytest.raises(
        DqlError,
        match=r"observation field 0 \('reach'\) child is 'flange' in the former and 'gripper' in",
    ):
        flange.require_fits(gripper, "the contract", "the bundle")


def test_every_observed_topic_is_an_input() -> None:
    topics = [each.topic for each in CONTRACT.observed_topics]
    assert topics == ["/tf", "/tf_static"] * 2
    kinds = [(each.qos.reliability, each.qos.durability) for each in CONTRACT.observed_topics]
    assert kinds[:2] == [("best_effort", "volatile"), ("reliable", "transient_local")]
    assert all(isinstance(each, ObservationStream) for each in CONTRACT.observed_topics)
    assert len({each.key for each in CONTRACT.observed_topics}) == len(topics)
    assert all(one != other for one, other in pairwise(topics))


def test_a_contract_of_poses_is_checked_shown_and_secured(
    tmp_path: Path, blank: Blank, record: Record
) -> None:
    bag = recorded(blank, record, tmp_path / "bag", robot_on_a_map(np.random.default_rng(3)))
    contract_file = tmp_path / "contract.yaml"
    rules = contract(observed("map", "tool0", max_age_s=0.25))
    contract_file.write_text(yaml.safe_dump(rules))
    check = check_bag(bag, CONTRACT)
    assert check.findings.problems == []
    assert check.episodes == len(episodes_of(bag, CONTRACT))
    assert check.rehearsal is not None
    # Of one pose nothing else can be missing but one of its transforms.
    alone = Contract.model_validate(rules)
    (rehearsal,) = filter(None, [check_bag(bag, alone).rehearsal])
    covered_ns = rehearsal.usage.covered_ns["observation", "tool0 in map"]
    assert rehearsal.usage.used_ns <= covered_ns
    assert rehearsal.usage.used_ns > 0.8 * covered_ns
    assert 0.3 * rehearsal.usage.recorded_ns < covered_ns < 0.95 * rehearsal.usage.recorded_ns
    wrong = Contract.model_validate(contract(observed("map", "tool1")))
    (problem,) = check_bag(bag, wrong).findings.problems
    assert "no frame 'tool1' (did you mean 'tool0'?)" in problem
    shown = dql("inspect", contract_file, cwd=tmp_path)
    assert "/tf: tool0 in map" in shown.stdout
    assert "/tf_static:" in shown.stdout
    assert shown.returncode == 0
    untrained_bundle(tmp_path, contract_file)
    words = ("replay", "bundle", "bag", "--contract", "contract.yaml", "--out", "replayed")
    replayed = dql(*words, cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stderr
    columns = (tmp_path / "replayed" / "replay.csv").read_text().partition("\n")[0]
    assert "tool0 in map" in columns
    policy = policy_document(alone)
    assert policy.count("<topic>/tf_static</topic>") == policy.count("<topic>/tf</topic>") > 1


def test_no_simulation_shows_a_pose_of_tfs() -> None:
    with pytest.raises(
        SimulationError, match=r"^'tool in base' is a pose out of tf's tree, which "
    ):
        open_environment("arm.xml", Contract.model_validate(ARM))
