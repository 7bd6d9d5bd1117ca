"""Random recordings, from files to dataset: causal, fresh, and independent of how they are stored.

Every message has a number of its own as its value, so that each number of the dataset tells which
message it comes from. What ought to be there is worked out here, in plain Python, by the rules.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from dql_core.data.dataset import Episode, load_dataset
from dql_core.errors import BagError
from dql_ros.contract import Contract
from dql_ros.convert.convert import Source, convert
from tests.ros.bag.written_bags import STORE, Recorded, Way, write_bag

pytestmark = pytest.mark.slow

STEP_NS = 5_000_000
SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS
PERIOD_NS = 4 * STEP_NS
JOINTS, ARRAY, POINT, FLOAT = (
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "geometry_msgs/msg/PointStamped",
    "std_msgs/msg/Float64",
)
ORDERS = (("a", "b"), ("b", "a"), ("gripper", "b", "a"), ("a", "gripper", "b", "tail"))
WAYS = (
    Way(),
    Way(chunk_size=1, compression="lz4"),
    Way(chunk_size=700, compression="zstd"),
    Way(chunk_size=0),
    Way(chunk_size=900, is_indexed=False),
    Way(chunk_size=600, is_shuffled=True),
    Way(files=3),
    Way(files=2, chunk_size=500, compression="zstd", is_indexed=False),
    Way("db3"),
    Way("db3", compression="message"),
    Way("db3", compression="file"),
    Way("db3", files=3),
    Way("db3", is_shuffled=True),
)


@dataclass(frozen=True)
class Said:
    """A message as the recording has it, with its number."""

    topic: str
    log_ns: int
    stamp_ns: int
    number: int
    variant: int = 0
    raises_end: bool = False


@dataclass
class Scene:
    """A contract and a recording for it."""

    contract: Contract
    said: list[Said] = field(default_factory=list)

    def of(self, topic: str) -> list[Said]:
        return [each for each in self.said if each.topic == topic]

    def time_of(self, each: Said, is_action: bool = False) -> int:
        """When it counts from, by the contract."""
        streams = self.contract.action if is_action else self.contract.observation
        stream = next(s for s in streams if s.topic == each.topic)
        return each.stamp_ns if stream.stamp == "header" else each.log_ns

    def recorded(self) -> list[Recorded]:
        return [serialised(each) for each in self.said]

    @property
    def has_ends(self) -> bool:
        return self.contract.episode.terminated is not None


def serialised(said: Said) -> Recorded:
    """As a recorder writes it."""
    types = STORE.types
    sec, nanosec = divmod(said.stamp_ns, SECOND_NS)
    stamp = types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="base" * said.variant)
    message: Any
    if said.topic == "/joints":
        names = ORDERS[said.variant]
        position = {"a": said.number, "b": said.number + 0.25}
        velocity = {"b": said.number + 0.5}
        message = types[JOINTS](
            header=header,
            name=list(names),
            position=np.array([position.get(name, -9.0) for name in names]),
            velocity=np.array([velocity.get(name, -9.0) for name in names]),
            effort=np.empty(0),
        )
        msgtype = JOINTS
    elif said.topic == "/goal":
        point = types["geometry_msgs/msg/Point"](
            x=float(said.number), y=0.0, z=float(said.raises_end)
        )
        message, msgtype = types[POINT](header=header, point=point), POINT
    elif said.topic == "/command":
        layout = types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
        data = np.array([float(said.number)] + [0.0] * said.variant)
        message, msgtype = types[ARRAY](layout=layout, data=data), ARRAY
    else:
        message, msgtype = types[FLOAT](data=float(said.number)), FLOAT
    return Recorded(said.topic, msgtype, said.log_ns, bytes(STORE.serialize_cdr(message, msgtype)))


@st.composite
def scenes(draw: DrawFn, ends: bool = True) -> Scene:
    """A contract in which topics have several uses, and messages that try its limits."""
    contract = Contract.model_validate(draw(documents(ends)))
    topics = ["/joints"] * 4 + ["/command"] * 3 + ["/goal"]
    topics += ["/reward"] * 2 if contract.reward is not None else []
    needed = ["/joints", "/command", "/goal", topics[-1]]
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 0, 1, 1, 2, 3, 4, 30]),
                st.sampled_from(topics),
                st.sampled_from([0, 0, 0, 1, 2, 5, 15, -1, -3, 250]),
                st.integers(0, 3),
                st.integers(0, 15).map(lambda n: n == 0),
            ),
            min_size=20,
            max_size=90,
        )
    )
    now, scene = START_NS, Scene(contract)
    for topic in dict.fromkeys(needed):  # each topic must have a message
        scene.said.append(Said(topic, now, now, len(scene.said) + 1))
    for pause, topic, late, variant, raises_end in steps:
        now += pause * STEP_NS
        number = len(scene.said) + 1
        # Stamps that go back so far are refused, but for those of a latched stream.
        stamp_ns = now - (late if topic == "/goal" else min(late, 15)) * STEP_NS
        scene.said.append(Said(topic, now, stamp_ns, number, variant, raises_end))
    return scene


@st.composite
def documents(draw: DrawFn, ends: bool) -> dict[str, Any]:
    observation: list[dict[str, Any]] = [
        {
            "topic": "/joints",
            "type": JOINTS,
            "stamp": draw(st.sampled_from(["header", "receive"])),
            "max_age_s": draw(st.sampled_from([0.03, 0.1])),
            "fields": [
                {"path": "velocity", "joints": ["b"]},
                {"path": "position", "joints": ["a", "b"]},
            ],
        }
    ]
    if draw(st.booleans()):
        observation.append(
            {
                "topic": "/command",
                "type": ARRAY,
                "stamp": "receive",
                "max_age_s": 0.2,
                "fields": [{"path": "data", "indices": [0], "names": ["before"]}],
            }
        )
    if draw(st.booleans()):
        stamp = draw(st.sampled_from(["header", "receive"]))
        fields = [{"path": "point.x"}]
        goal = {"topic": "/goal", "type": POINT, "stamp": stamp, "latched": True, "fields": fields}
        observation.append(goal)
    document: dict[str, Any] = {
        "robot": "r",
        "rate_hz": 1e9 / PERIOD_NS,
        "tick": draw(st.sampled_from(["grid", "grid", "action"])),
        "observation": observation,
        "action": [
            {
                "topic": "/command",
                "type": ARRAY,
                "max_age_s": draw(st.sampled_from([0.03, 0.2])),
                "command": draw(st.sampled_from(["first", "held"])),
                "fields": [{"path": "data", "indices": [0], "low": -1e6, "high": 1e6}],
            }
        ],
    }
    if draw(st.booleans()):
        tick = draw(st.sampled_from(["ended", "begun"]))
        document["reward"] = {"topic": "/reward", "type": FLOAT, "tick": tick}
    if ends and draw(st.booleans()):
        flag = {"topic": "/goal", "type": POINT, "path": "point.z"}
        document["episode"] = {"terminated": flag}
    return document


@dataclass(frozen=True)
class Converted:
    """What a conversion gave: ``None`` if no episode was found."""

    report: dict[str, Any]
    episodes: tuple[Episode, ...]
    folder: Path


@contextmanager
def converted(scene: Scene, way: Way = WAYS[0]) -> Iterator[Converted | None]:
    with tempfile.TemporaryDirectory() as folder:
        bag = write_bag(Path(folder) / "bag", scene.recorded(), way)
        yield convert_once(scene.contract, bag, Path(folder) / "out")


def convert_once(contract: Contract, bag: Path, out: Path) -> Converted | None:
    try:
        report = convert(Source(contract, [bag]), out)
    except BagError as error:
        if "no episode could be made" not in str(error):
            raise
        assert not out.exists()
        return None
    return Converted(report, tuple(load_dataset(out).episodes), out)


def newest(scene: Scene, topic: str, tick_ns: int, max_age_ns: int | None) -> Said | None:
    """What is held of an observed topic at a tick, told message by message."""
    held: list[Said] = []
    last_ns: int | None = None
    for each in scene.of(topic):
        if each.log_ns > tick_ns:
            break
        time_ns = scene.time_of(each)
        if last_ns is not None and time_ns < last_ns - SECOND_NS:
            held.clear()  # the stamps' clock was set back
        last_ns = time_ns
        held.append(each)
    known = [each for each in held if scene.time_of(each) <= tick_ns]
    found = max(known, key=lambda each: (scene.time_of(each), each.number), default=None)
    if found is None or max_age_ns is None or tick_ns - scene.time_of(found) <= max_age_ns:
        return found
    return None


def commanded(scene: Scene, start_ns: int, end_ns: int) -> Said | None:
    """The command in force in [start, end), by the contract's rule."""
    (stream,) = scene.contract.action
    commands = scene.of("/command")
    fresh = [each for each in commands if start_ns <= each.log_ns < end_ns]
    if stream.command == "first" and fresh:
        return fresh[0]
    is_first = stream.command == "first"
    held = [c for c in commands if c.log_ns < start_ns + int(not is_first)]
    if held and start_ns - held[-1].log_ns <= stream.max_age_ns:
        return held[-1]
    return None


def ticks_of(scene: Scene, row: dict[str, Any], length: int) -> list[int] | None:
    """The episode's ticks, if the report tells them."""
    first = START_NS + round(row["from_s"] * 1e9)
    if scene.contract.tick == "grid":
        return [first + PERIOD_NS * index for index in range(length + 1)]
    last = START_NS + round(row["to_s"] * 1e9)
    between = sorted({c.log_ns for c in scene.of("/command") if first <= c.log_ns < last})
    return [*between, last]


def numbers_seen(scene: Scene, observation: Sequence[float]) -> dict[str, int]:
    """Which message each stream's part of an observation comes from."""
    found, start = {}, 0
    for stream in scene.contract.observation:
        part = [float(value) for value in observation[start : start + stream.width]]
        start += stream.width
        number = int(part[0])
        assert part == ([number + 0.5, number, number + 0.25] if len(part) == 3 else [number])
        found[stream.topic] = number
    return found


@settings(deadline=None, max_examples=60)
@given(scenes())
def test_no_value_is_from_after_its_tick_or_older_than_its_limit(scene: Scene) -> None:
    by_number = {each.number: each for each in scene.said}
    with converted(scene) as result:
        event("episodes" if result else "none")
        if result is None:
            return
        for row, episode in zip(result.report["episodes"], result.episodes, strict=True):
            ticks = ticks_of(scene, row, len(episode))
            assert ticks is not None
            assert len(ticks) == len(episode) + 1
            for tick, observation in zip(ticks, episode.observations, strict=True):
                seen = numbers_seen(scene, observation)
                for stream in scene.contract.observation:
                    source = by_number[seen[stream.topic]]
                    assert source.topic == stream.topic
                    assert source.log_ns <= tick
                    assert scene.time_of(source) <= tick
                    if stream.max_age_ns is not None:
                        assert tick - scene.time_of(source) <= stream.max_age_ns
            (rule,) = scene.contract.action
            for (start, end), action in zip(pairwise(ticks), episode.actions, strict=True):
                source = by_number[int(action[0])]
                assert source.topic == "/command"
                assert source.log_ns < end
                assert rule.command == "first" or source.log_ns <= start
                assert start - source.log_ns <= rule.max_age_ns


@settings(deadline=None, max_examples=60)
@given(scenes(ends=False))
def test_every_number_is_the_one_that_the_rules_name(scene: Scene) -> None:
    with converted(scene) as result:
        if result is None:
            return
        for row, episode in zip(result.report["episodes"], result.episodes, strict=True):
            ticks = ticks_of(scene, row, len(episode))
            assert ticks is not None
            for tick, observation in zip(ticks, episode.observations, strict=True):
                for topic, number in numbers_seen(scene, observation).items():
                    stream = next(s for s in scene.contract.observation if s.topic == topic)
                    expected = newest(scene, topic, tick, stream.max_age_ns)
                    assert expected is not None
                    assert number == expected.number
            for index, action in enumerate(episode.actions):
                command = commanded(scene, ticks[index], ticks[index + 1])
                assert command is not None
                assert action.tolist() == [command.number]
            if scene.contract.reward is not None:
                sums = [rewarded(scene, *pair) for pair in pairwise(ticks)]
                assert episode.rewards.tolist() == sums
            check_ending(scene, row, ticks[-1])


def rewarded(scene: Scene, start_ns: int, end_ns: int) -> float:
    rule = scene.contract.reward
    begun = getattr(rule, "tick", "") == "begun"
    found = [
        each.number
        for each in scene.of("/reward")
        if (start_ns <= each.log_ns < end_ns if begun else start_ns < each.log_ns <= end_ns)
    ]
    assert found, "a transition without a reward is none"
    return float(sum(found))


def check_ending(scene: Scene, row: dict[str, Any], last_ns: int) -> None:
    """An episode does not end before something is missing, and the report names it."""
    assert row["truncated"]
    assert not row["terminated"]
    if scene.contract.tick == "action":
        return
    next_ns = last_ns + PERIOD_NS
    needed = {*(s.topic for s in scene.contract.observation), "/command"}
    needed |= {"/reward"} if scene.contract.reward is not None else set()
    end_ns = max(each.log_ns for each in scene.said if each.topic in needed)
    lacking = [
        stream.topic
        for stream in scene.contract.observation
        if newest(scene, stream.topic, next_ns, stream.max_age_ns) is None
    ]
    if row["ending"] == "the recording stopped":
        assert next_ns > end_ns
    elif row["ending"].startswith("no command"):
        assert commanded(scene, last_ns, next_ns) is None
    elif row["ending"] == "no reward":
        assert scene.contract.reward is not None
    else:
        assert row["ending"] == f"no {' and no '.join(lacking)} for too long"


@settings(deadline=None, max_examples=50)
@given(scenes(), st.sampled_from(WAYS[1:]))
def test_how_a_recording_is_stored_changes_nothing(scene: Scene, way: Way) -> None:
    event(str(way))
    with converted(scene) as plain, converted(scene, way) as other:
        assert (plain is None) == (other is None)
        if plain is None or other is None:
            return
        assert content(plain) == content(other)


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
def test_a_long_recording_is_the_same_in_every_storage(way: Way) -> None:
    scene = long_scene()
    with converted(scene) as plain, converted(scene, way) as other:
        assert plain is not None
        assert other is not None
        assert plain.report["totals"]["transitions"] > 250
        assert content(plain) == content(other)


@settings(deadline=None, max_examples=15)
@given(scenes())
def test_a_second_conversion_gives_the_same_bytes(scene: Scene) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bag = write_bag(Path(folder) / "bag", scene.recorded())
        first = convert_once(scene.contract, bag, Path(folder) / "out")
        second = convert_once(scene.contract, bag, Path(folder) / "again")
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert all_bytes(first.folder) == all_bytes(second.folder)


def long_scene() -> Scene:
    """Some ten seconds of all topics, of which an MCAP chunk holds few."""
    rng = np.random.default_rng(5)
    stamped = {"stamp": "header", "max_age_s": 0.1}
    base = {"path": "data", "indices": [0]}
    contract = Contract.model_validate(
        {
            "robot": "r",
            "rate_hz": 1e9 / PERIOD_NS,
            "observation": [
                {
                    "topic": "/joints",
                    "type": JOINTS,
                    "fields": [{"path": "position", "joints": ["b"]}],
                    **stamped,
                },
                {"topic": "/command", "type": ARRAY, "stamp": "receive", "fields": [base]},
            ],
            "action": [
                {
                    "topic": "/command",
                    "type": ARRAY,
                    "max_age_s": 0.1,
                    "fields": [{**base, "low": -1e6, "high": 1e6}],
                }
            ],
            "episode": {"terminated": {"topic": "/goal", "type": POINT, "path": "point.z"}},
        }
    )
    scene, now = Scene(contract), START_NS
    for number in range(1, 3000):
        now += STEP_NS * int(rng.choice([0, 1, 2, 40], p=[0.5, 0.4, 0.095, 0.005]))
        topic = str(rng.choice(["/joints", "/command", "/goal"], p=[0.6, 0.38, 0.02]))
        late = int(rng.choice([0, 1, 3, 12]))
        end = bool(rng.random() < 0.3)
        variant = int(rng.integers(4))
        scene.said.append(Said(topic, now, now - late * STEP_NS, number, variant, end))
    return scene


def content(result: Converted) -> tuple[Any, ...]:
    """All that a dataset and its report say, but for the names and sizes of the files read."""
    arrays = [
        (e.observations.tobytes(), e.actions.tobytes(), e.rewards.tobytes(), e.terminated)
        for e in result.episodes
    ]
    (bag,) = {row["bag"] for row in result.report["bags"]}
    told = json.loads(json.dumps(result.report).replace(bag, "the bag"))
    del told["bags_sha256"]
    for row in told["bags"]:
        for key in ("files", "size_bytes", "notes"):
            row.pop(key, None)
    told["remarks"] = [remark for remark in told["remarks"] if "metadata.yaml" not in remark]
    return arrays, told


def all_bytes(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}
