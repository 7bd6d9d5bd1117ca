"""Which pose out of tf's tree a draft proposes, and that it can be taken as it stands."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.typesys.store import Typestore
from typer.testing import CliRunner

from dql_ros.bag.reader import Bag
from dql_ros.cli.contract import contract
from dql_ros.contract import TransformStream, load_contract
from dql_ros.tools.contract_draft.topic_profile import Profiler
from tests.ros.broadcasting import START_NS, TWIST, Sent, messages
from tests.ros.tools.draft_samples import JOINTS

MS = 1_000_000


def still(parent: str, child: str) -> list[Sent]:
    return [Sent(parent, child, 0, [0.1, 0.0, 0.2, 0.0, 0.0, 0.0, 1.0], START_NS, True)]


def moving(parent: str, child: str, *, ahead_ns: int = -2 * MS) -> list[Sent]:
    return [
        Sent(
            parent,
            child,
            START_NS + i * 20 * MS + ahead_ns,
            [np.sin(i / 50), 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
            START_NS + i * 20 * MS,
        )
        for i in range(300)
    ]


def recording(
    folder: Path, record: Callable[..., Path], blank: Callable[[str], Any], sent: list[Sent]
) -> Path:
    found = messages(blank, sent)
    for i in range(300):
        joints, twist = blank(JOINTS), blank(TWIST)
        at_ns = START_NS + i * 20 * MS
        joints.header.stamp.sec, joints.header.stamp.nanosec = divmod(at_ns, 10**9)
        joints.name, joints.position = ["a"], np.array([np.sin(i / 50)])
        twist.linear.x = float(np.cos(i / 50))
        found += [("/joint_states", JOINTS, at_ns, joints), ("/cmd_vel", TWIST, at_ns, twist)]
    return record(folder, sorted(found, key=lambda each: each[2]))


@pytest.mark.parametrize("ahead_ns", [-2 * MS, 300 * MS])
def test_the_tools_pose_is_proposed_and_can_be_taken(
    tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any], ahead_ns: int
) -> None:
    sent = [
        *still("base_link", "shoulder"),
        *moving("shoulder", "elbow", ahead_ns=ahead_ns),
        *moving("elbow", "wrist", ahead_ns=ahead_ns),
        *still("wrist", "tool0"),
        *moving("odom", "base_link"),
    ]
    bag = recording(tmp_path / "bag", record, blank, sent)
    draft = tmp_path / "arm.yaml"
    made = CliRunner().invoke(contract, ["init", str(bag), "--out", str(draft)])
    assert made.exit_code == 0, made.output
    text = draft.read_text()
    assert "Where 'tool0' is in 'base_link' by tf, in which 2 of 4 transforms moved." in " ".join(
        text.replace("#", " ").split()
    )
    start = text.index("  # - tf: {parent: base_link, child: tool0}")
    part, rest = text[start:].split("\n\n", 1)
    draft.write_text(text[:start] + re.sub(r"(?m)^  # ", "  ", part) + "\n\n" + rest)
    checked = CliRunner().invoke(contract, ["check", str(draft), str(bag)])
    assert checked.exit_code == 0, checked.output
    stream = load_contract(draft).observation[-1]
    assert isinstance(stream, TransformStream)
    assert stream.width == 9
    assert stream.stamp == ("header" if ahead_ns < 0 else "receive")
    assert 0.1 <= stream.max_age_s <= 0.2


@pytest.mark.parametrize(
    ("sent", "pose"),
    [
        ([*moving("odom", "base_link"), *moving("map", "odom")], ("odom", "base_link")),
        ([*moving("world", "left/tcp"), *still("world", "left/base")], ("world", "left/tcp")),
        ([*moving("base", "gripper"), *moving("gripper", "tool0")], ("base", "tool0")),
        ([*moving("world", "camera")], None),
        ([*still("base_link", "tool0")], None),
        ([*moving("tool0", "tool0"), *moving("", "tool0")], None),
        ([*moving("a", "tool0"), *moving("b", "tool0")], None),
    ],
)
def test_which_pose_is_likely_to_be_of_use(
    tmp_path: Path,
    record: Callable[..., Path],
    blank: Callable[[str], Any],
    typestore: Typestore,
    sent: list[Sent],
    pose: tuple[str, str] | None,
) -> None:
    profiler = Profiler()
    with Bag(recording(tmp_path / "bag", record, blank, sent)) as bag:
        profiler.add(bag)
    found = profiler.frames.pose()
    assert (None if found is None else (found.stream.tf.parent, found.stream.tf.child)) == pose
