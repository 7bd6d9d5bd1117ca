"""Transforms out of messages, and poses of them, against plain matrices."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import MessageError
from dql_ros.codecs.broadcasters import BroadcasterWatch
from dql_ros.codecs.frame_tree import Edge, FrameTree, Step
from dql_ros.codecs.transforms import TransformBlockDecoder, broadcasts, composed
from dql_ros.contract import TransformStream
from tests.ros.broadcasting import TF, Sent, matrix, message, observed, pose

Blank = Callable[[str], Any]
STEP_NS = 20_000_000


def stream(parent: str, child: str) -> TransformStream:
    return TransformStream.model_validate(observed(parent, child))


def moving(parent: str, child: str) -> Edge:
    return Edge(parent, child, False)


@pytest.mark.parametrize("seed", range(5))
def test_a_pose_is_the_product_of_the_matrices_in_the_chain(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = [Step(moving("p", "c"), bool(rng.random() < 0.5)) for _ in range(rng.integers(1, 6))]
    transforms = [np.array([pose(rng) for _ in range(50)]) for _ in chain]
    for each in transforms:
        each[:, 3:] *= rng.uniform(0.5, 2.0, size=(50, 1))  # only its direction counts
    found = composed(chain, transforms)
    for row in range(50):
        expected = np.eye(4)
        for step, numbers in zip(chain, transforms, strict=True):
            one = matrix(numbers[row])
            expected = (np.linalg.inv(one) if step.is_inverse else one) @ expected
        np.testing.assert_allclose(matrix(found[row]), expected, atol=1e-12)
        alone = composed(chain, [numbers[row : row + 1] for numbers in transforms])
        assert alone.tobytes() == found[row : row + 1].tobytes()


def test_a_rotation_of_zeros_is_no_pose() -> None:
    numbers = np.array([[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]])
    assert np.isnan(composed([Step(moving("p", "c"), False)], [numbers])[0, 3:]).all()


def block_of(blank: Blank, typestore: Typestore, groups: list[list[Sent]]) -> MessageBlock:
    payloads = [bytes(typestore.serialize_cdr(message(blank, group), TF)) for group in groups]
    lengths = np.array([len(payload) for payload in payloads])
    return MessageBlock(
        "/tf",
        TF,
        np.arange(len(payloads), dtype=np.int64),
        np.frombuffer(b"".join(payloads), np.uint8),
        np.cumsum(lengths) - lengths,
        lengths,
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_block_is_decoded_as_its_messages_are(
    blank: Blank, typestore: Typestore, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frames = ["map", "/odom", "base_link", "tööl", "x" * 30]
    groups = []
    for _ in range(int(rng.integers(1, 200))):
        count = int(rng.integers(0, 4)) if seed % 2 else 2
        chosen = rng.choice(4 if seed % 2 else 1, size=count)
        groups.append(
            [
                Sent(frames[i], frames[i + 1], int(rng.integers(0, 2**60)), pose(rng))
                for i in chosen
            ]
        )
    block = block_of(blank, typestore, groups)
    found = TransformBlockDecoder("/tf", TF, False, typestore).decode(block)
    assert found.messages.tolist() == [i for i, group in enumerate(groups) for _ in group]
    expected = [
        each for group in groups for each in broadcasts(message(blank, group), "/tf", False)
    ]
    assert found.edges.tolist() == [each.edge for each in expected]
    assert found.stamps_ns.tolist() == [each.stamp_ns for each in expected]
    assert found.numbers.tolist() == [list(each.numbers) for each in expected]
    assert not any(frame.startswith("/") for edge in found.edges for frame in edge[:2])


def test_a_message_that_is_none_of_tfs_is_said(blank: Blank, typestore: Typestore) -> None:
    block = block_of(blank, typestore, [[Sent("a", "b", 0, [0.0] * 6 + [1.0])]])
    cut = replace(block, lengths=block.lengths - 9)
    with pytest.raises(MessageError, match=r"^/tf: a message is no tf2_msgs/msg/TFMessage: "):
        TransformBlockDecoder("/tf", TF, False, typestore).decode(cut)
    with pytest.raises(ContractError, match=r"/tf: a message has no transforms .* 'type'"):
        broadcasts(blank("std_msgs/msg/Bool"), "/tf", False)


def test_the_way_is_the_same_in_whatever_order_a_tree_becomes_known() -> None:
    edges = [moving(*each) for each in ("ab", "bc", "bd", "de", "ef", "xa", "xy", "cz")]
    chains = set()
    rng = np.random.default_rng(0)
    for _ in range(50):
        tree = FrameTree(stream("c", "f"))
        for index in rng.permutation(len(edges)):
            tree.add(edges[index])
        chains.add(tree.chain)
    (chain,) = chains
    assert chain is not None
    assert [(step.edge.child, step.is_inverse) for step in chain] == [
        ("f", False),
        ("e", False),
        ("d", False),
        ("c", True),
    ]


def test_a_way_begins_when_its_last_transform_is_known() -> None:
    tree = FrameTree(stream("a", "c"))
    assert tree.add(moving("x", "y")), "may still be in the chain"
    assert tree.add(moving("b", "c"))
    assert tree.chain is None
    assert tree.add(moving("a", "b"))
    assert tree.chain is not None
    assert not tree.add(moving("x", "y"))
    assert tree.explanation() == ""


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        ([("base", "b")], "/tf: no frame 'tool' is broadcast so far; there are b, base; correct"),
        (
            [("base", "tool1")],
            "/tf: no frame 'tool' (did you mean 'tool1'?) is broadcast so far; there are base, ",
        ),
        (
            [("base", "b"), ("world", "tool")],
            "/tf: nothing connects 'tool', below 'world', with 'base', below 'base'; correct",
        ),
        (
            [("b", "tool"), ("c", "b"), ("b", "c"), ("base", "d")],
            "/tf: the frames go round in a loop, 'b' in 'c' in 'b'; one of them has no parent",
        ),
        ([], "/tf: no frame 'tool' and no frame 'base' is broadcast so far; nothing is broadcast"),
    ],
)
def test_why_there_is_no_way_is_said(edges: list[tuple[str, str]], said: str) -> None:
    tree = FrameTree(stream("base", "tool"))
    for each in edges:
        tree.add(moving(*each))
    assert tree.chain is None
    assert tree.explanation().startswith(said)


def test_a_loop_elsewhere_does_no_harm() -> None:
    tree = FrameTree(stream("base", "tool"))
    for each in [("odom", "base"), ("map", "odom"), ("odom", "map"), ("base", "tool")]:
        tree.add(moving(*each))
    assert tree.chain is not None
    assert len(tree.chain) == 1


@pytest.mark.parametrize("known_before", [True, False])
def test_a_frame_that_moves_in_the_tree_is_refused(known_before: bool) -> None:
    tree = FrameTree(stream("base", "tool"))
    one, other = moving("flange", "tool"), moving("gripper", "tool")
    between = moving("base", "flange")
    # As long as nothing connects the two frames, a second parent may not matter.
    *harmless, last = [one, between, other] if known_before else [one, other, between]
    for each in harmless:
        tree.add(each)
    with pytest.raises(
        ContractError,
        match=r"^/tf: the frame 'tool' is in 'gripper' here and was in 'flange' before: ",
    ):
        tree.add(last)
    assert "'gripper' here" in tree.explanation()
    assert tree.add(moving("x", "y")) is False, "of others it is not the fault"


def test_a_frame_that_moves_in_another_part_of_the_tree_does_no_harm() -> None:
    tree = FrameTree(stream("base", "tool"))
    for each in [("base", "tool"), ("base", "cup"), ("tool", "cup"), ("base", "cup")]:
        tree.add(moving(*each))
    assert tree.explanation() == ""


def test_a_transform_that_is_static_and_moves_is_refused() -> None:
    tree = FrameTree(stream("base", "tool"))
    tree.add(Edge("base", "tool", True))
    with pytest.raises(ContractError, match=r"'tool' in 'base' is broadcast as static and as mov"):
        tree.add(moving("base", "tool"))


def watched(stamps: list[int], xs: list[float], *, at_once: bool, is_static: bool = False) -> str:
    watch = BroadcasterWatch(Edge("a", "b", is_static))
    poses = [[x, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0] for x in xs]
    if at_once:
        half = len(poses) // 2
        parts = [slice(0, half), slice(half, None)]
        found = [watch.note_block(np.array(stamps[p]), np.array(poses[p])) for p in parts]
        said = ["" if each is None else each[0] for each in found]
    else:
        said = [watch.note(*each) for each in zip(stamps, poses, strict=True)]
    return next(filter(None, said), "")


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("stamps", "xs", "said"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [0.0, 0.5] * 6, "to and fro"),
        ([1, 1, 2, 2, 3, 3, 4, 4], [0.0, 0.5, 0.01, 0.6, 0.02, 0.7, 0.03, 0.8], "come twice"),
        ([5, 1, 6, 2, 7, 3, 8, 4], [0.0, 0.5, 0.1, 0.6, 0.3, 0.9, 0.2, 0.4], "or go back"),
        # One node: an encoder's last digit, the same again, a clock that was set back, a jump.
        ([*range(40)], [0.0, 0.001] * 20, ""),
        ([1, 1, 2, 2, 3, 3, 4, 4], [0.0, 0.0, 0.5, 0.5, 0.9, 0.9, 1.5, 1.5], ""),
        ([4 * 10**9, 1, 2, 3, 4, 5, 6, 7], [0.0, 0.5, 0.9, 1.5, 2.0, 2.5, 3.0, 3.5], ""),
        ([*range(20)], [0.0] * 10 + [3.0] * 10, ""),
        ([*range(30)], [float(x) for x in range(30)], ""),
    ],
)
def test_two_nodes_that_disagree_are_told_from_one(
    stamps: list[int], xs: list[float], said: str, at_once: bool
) -> None:
    found = watched(stamps, xs, at_once=at_once)
    assert said in found
    assert bool(found) == bool(said)
    if said:
        assert found.startswith("two nodes broadcast 'b' in 'a' and disagree: ")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_static_transform_that_changes_is_said(at_once: bool) -> None:
    assert watched([1, 1, 1, 1], [0.5] * 4, at_once=at_once, is_static=True) == ""
    said = watched([1, 2, 3, 4], [0.5, 0.5, 0.5, 0.6], at_once=at_once, is_static=True)
    assert said.startswith("the static transform of 'b' in 'a' changes: ")
