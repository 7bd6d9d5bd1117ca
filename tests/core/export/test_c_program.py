"""Graphs that no C is written of, and those that compute what a policy's need not."""

from collections.abc import Callable

import numpy as np
import pytest

from dql_core.errors import BundleError
from dql_core.export.c.maps import literal
from dql_core.export.c.memory import Arena
from dql_core.export.c.program import Program, Stage
from dql_core.export.c.source import Source, constant_array
from dql_core.export.onnx_layers import OnnxBuilder
from dql_core.runtime.onnx_file import read_graph

Body = Callable[[OnnxBuilder], str]
NOISE = "selection_noise"


def the_largest(builder: OnnxBuilder) -> None:
    best = builder.add("ArgMax", NOISE, axis=0, keepdims=0)
    builder.add("Gather", "candidates", best, output="action", axis=0)


def source_of(
    body: Body, candidates: int = 6, choose: Callable[[OnnxBuilder], None] = the_largest
) -> Source:
    """Return the C of a graph whose candidates ``body`` makes of noise, (2, K, 3)."""
    builder = OnnxBuilder()
    builder.add("Add", body(builder), builder.constant(np.zeros(3)), output="candidates")
    count = builder.add("Shape", "selection_noise")
    builder.add("ConstantOfShape", count, output="q_values")
    choose(builder)
    model = builder.model(
        inputs={"observation": [4], "noise": [2, "K", 3], "selection_noise": ["K"]},
        outputs={"action": [3], "q_values": ["K"], "candidates": ["K", 3]},
        description="",
    )
    return Source(Program.of(read_graph(model)), candidates, draws_selection=True)


def sound(builder: OnnxBuilder) -> str:
    flat = builder.add("Reshape", "noise", builder.constant([-1, 3], np.int64))
    one, other = builder.split(flat, 2, axis=0)
    return builder.add("Add", one, other)


def turned(builder: OnnxBuilder) -> str:
    """Candidates are the columns of what was their rows."""
    rows = builder.add("Reshape", sound(builder), builder.constant([3, -1], np.int64))
    return builder.add("Reshape", rows, builder.constant([-1, 3], np.int64))


def cut_elsewhere(builder: OnnxBuilder) -> str:
    """The draws of one candidate are those of its neighbours."""
    return builder.split(
        builder.add("Reshape", "noise", builder.constant([-1, 6], np.int64)), 2, 1
    )[0]


def unsplit(builder: OnnxBuilder) -> str:
    flat = builder.add("Reshape", "noise", builder.constant([-1, 3], np.int64))
    return builder.split(builder.add("Exp", flat), 2, axis=0)[0]


def less_the_mean(builder: OnnxBuilder) -> str:
    rows = sound(builder)
    return builder.add("Sub", rows, builder.add("ReduceMean", rows))


def clipped(low: float, high: float | None) -> Body:
    """Clip to two numbers, or to one that is computed."""

    def body(builder: OnnxBuilder) -> str:
        root = builder.add("Sqrt", builder.constant(4.0))
        upper = root if high is None else builder.constant(high)
        return builder.add("Clip", sound(builder), builder.constant(low), upper)

    return body


def infinite(builder: OnnxBuilder) -> str:
    return builder.add("Add", sound(builder), builder.constant([np.inf, 0.0, 0.0]))


def test_a_sound_graph_has_a_stage_for_each_of_its_parts() -> None:
    source = source_of(sound)
    assert source.uses_noise
    assert "decision->candidates + first * 3" in source.calls(Stage.CANDIDATE)
    assert "largest(6, noise->selection)" in source.calls(Stage.CHOICE)
    assert source.calls(Stage.SHARED) == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (turned, "makes candidates of each other by 'Reshape'"),
        (cut_elsewhere, "makes candidates of each other by 'Reshape'"),
        (unsplit, "makes candidates of each other by 'Reshape'"),
        (less_the_mean, "chooses by more than its candidates and their values"),
        (infinite, "has a weight that is not finite"),
        (clipped(1.0, -1.0), "clips to what is no range of two numbers"),
        (clipped(-1.0, None), "clips to what is no range of two numbers"),
    ],
)
def test_candidates_that_depend_on_each_other_are_refused(body: Body, words: str) -> None:
    with pytest.raises(BundleError, match=rf"^the graph {words}: no C can be written of it"):
        source_of(body)


def always_the_first(builder: OnnxBuilder) -> None:
    builder.add("Gather", "candidates", builder.constant(0, np.int64), output="action", axis=0)


def one_less_the_other(builder: OnnxBuilder) -> None:
    """Both are found before one of them is used."""
    best = [builder.add("ArgMax", name, axis=0, keepdims=0) for name in ("q_values", NOISE)]
    chosen = [builder.add("Gather", "candidates", each, axis=0) for each in best]
    builder.add("Sub", *chosen, output="action")


@pytest.mark.parametrize(
    ("choose", "words"),
    [
        (always_the_first, "the graph computes with integers by 'Gather': no C can be written"),
        (one_less_the_other, "the graph uses 'ArgMax' as no C is written of it"),
    ],
)
def test_what_is_chosen_is_what_is_largest(
    choose: Callable[[OnnxBuilder], None], words: str
) -> None:
    with pytest.raises(BundleError, match=f"^{words}"):
        source_of(sound, choose=choose)


@pytest.mark.parametrize("factor", [np.inf, np.nan])
def test_a_factor_that_is_no_number_is_refused(factor: float) -> None:
    def scaled(builder: OnnxBuilder) -> str:
        return builder.linear(sound(builder), np.eye(3), builder.constant(np.zeros(3)), factor)

    with pytest.raises(BundleError, match="the graph uses 'Gemm' as no C is written of it"):
        source_of(scaled)


def test_a_chain_of_ten_thousand_sums_is_written_without_a_loop_as_deep() -> None:
    def chain(builder: OnnxBuilder) -> str:
        value = sound(builder)
        for _ in range(10_000):
            value = builder.add("Add", value, value)
        return value

    source = source_of(chain)
    assert source.arenas[Stage.CANDIDATE].size < 100
    assert source.functions().count("static void loop_") < 5


@pytest.mark.parametrize("value", [0.1, -1.5, 1.0, 16777216.0, 1e-45, 3.4028235e38, -0.0, 1 / 3])
def test_constants_read_back_to_the_bit(value: float) -> None:
    text = literal(value)
    assert "." in text or "e" in text
    assert np.float32(text.strip("()f")).tobytes() == np.float32(value).tobytes()


def test_what_is_no_number_is_no_constant() -> None:
    with pytest.raises(ValueError, match="nan is no constant of C"):
        constant_array("float x", np.array([np.nan]))


def test_memory_is_shared_by_what_is_not_needed_at_once() -> None:
    arena = Arena()
    arena.add("a", 10)
    arena.add("b", 4)
    arena.free("a")
    arena.add("c", 6)
    arena.add("d", 4)
    assert arena.offsets == {"a": 0, "b": 10, "c": 0, "d": 6}
    arena.add("e", 4, in_place_of=["b"])
    assert arena.offsets["e"] == arena.offsets["b"]
    arena.free("b")  # overwritten already
    arena.add("f", 1)
    assert arena.offsets["f"] == 14
    assert arena.size == 15
