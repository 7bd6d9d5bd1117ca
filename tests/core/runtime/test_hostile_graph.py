"""Graphs that ask for more than a policy: refused in one line, before ONNX Runtime sees them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dql_core.algo.registry import AGENTS
from dql_core.config import AgentName
from dql_core.errors import BundleError
from dql_core.export.bundle import export_bundle
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.manifest import GRAPH_FILE, Manifest, read_manifest
from dql_core.runtime.onnx_check import _OPERATORS, _Shapes, require_policy_graph
from dql_core.runtime.onnx_file import read_graph
from tests.core.conftest import save_untrained
from tests.core.runtime.test_hostile_bundle import forge, refuses

pytestmark = pytest.mark.slow


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


Edit = Callable[[Any], None]


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return read_manifest(tiny_bundle)


@pytest.fixture
def model(tiny_bundle: Path) -> Any:
    return onnx.load_from_string((tiny_bundle / GRAPH_FILE).read_bytes())


def external(model: Any) -> None:
    """Let a weight be read from a file of the system."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def subgraph(model: Any) -> None:
    """Compute something in a branch, whose graph has a weight outside of the file."""
    branch = helper.make_graph([], "branch", [], [])
    branch.initializer.append(model.graph.initializer[0])
    external_branch = helper.make_node("If", ["c"], ["x"], then_branch=branch, else_branch=branch)
    model.graph.node.append(external_branch)


def tensor_attribute(model: Any) -> None:
    value = numpy_helper.from_array(np.zeros(3, np.float32))
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=value))


def sparse(model: Any) -> None:
    values, indices = numpy_helper.from_array(np.zeros(1)), numpy_helper.from_array(np.zeros(1))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))


def function(model: Any) -> None:
    opset = [helper.make_opsetid("", 18)]
    node = helper.make_node("Exp", ["a"], ["b"])
    model.functions.append(helper.make_function("evil", "F", ["a"], ["b"], [node], opset))
    model.graph.node[0].domain = "evil"


def custom_domain(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("com.evil", 1))
    model.graph.node.append(helper.make_node("Run", [], ["x"], domain="com.evil"))


def domain_of_a_node(model: Any) -> None:
    model.graph.node[0].domain = "ai.onnx.contrib"


def operator(model: Any) -> None:
    model.graph.node.append(helper.make_node("Loop", ["a"], ["x"]))


def library(model: Any) -> None:
    model.metadata_props.add(key="custom_op_library", value="/tmp/evil.so")


def note_on_a_node(model: Any) -> None:
    model.graph.node[0].metadata_props.add(key="a", value="b")


def training(model: Any) -> None:
    model.training_info.add()


def other_version(model: Any) -> None:
    model.opset_import[0].version = 9


def more_inputs(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def fewer_outputs(model: Any) -> None:
    del model.graph.output[-1]


def another_size(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def another_type(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def fixed_count(model: Any) -> None:
    model.graph.input[2].type.tensor_type.shape.dim[0].dim_value = 8


def no_shape(model: Any) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def sequence(model: Any) -> None:
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def huge_constant(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40]


def negative_constant(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [-1, -4]


def texts(model: Any) -> None:
    model.graph.initializer[0].data_type = TensorProto.STRING


def constant(model: Any, name: str, values: list[int]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def terabytes(model: Any) -> None:
    shape = constant(model, "terabytes", [1 << 20, 1 << 20])
    model.graph.node.append(helper.make_node("ConstantOfShape", [shape], ["x"]))


def endless_products(model: Any) -> None:
    """Multiply what is as large as a file may hold again and again."""
    matrix = numpy_helper.from_array(np.zeros((2048, 2048), np.float32), "matrix")
    model.graph.initializer.append(matrix)
    name = "matrix"
    for index in range(10):
        node = helper.make_node("Gemm", [name, "matrix", "matrix"], [f"p{index}"])
        model.graph.node.append(node)
        name = f"p{index}"


def beyond_integers(model: Any) -> None:
    shape = constant(model, "beyond", [1 << 62, 1 << 62, 1 << 62])
    model.graph.node.append(helper.make_node("ConstantOfShape", [shape], ["x"]))


def squares(model: Any) -> None:
    """Let a value grow with the square of the candidates, and again."""
    column = constant(model, "column", [-1, 1])
    model.graph.node.extend(
        [
            helper.make_node("Reshape", ["selection_noise", column], ["c"]),
            helper.make_node("Add", ["c", "selection_noise"], ["x"]),
        ]
    )


def computed_shape(model: Any) -> None:
    model.graph.node.append(helper.make_node("ArgMax", ["selection_noise"], ["n"], axis=0))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["n"], ["x"]))


def cycle(model: Any) -> None:
    model.graph.node.append(helper.make_node("Exp", ["y"], ["x"]))
    model.graph.node.append(helper.make_node("Exp", ["x"], ["y"]))


def twice(model: Any) -> None:
    model.graph.node.append(model.graph.node[0])


def other_attribute(model: Any) -> None:
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    gemm.attribute.append(helper.make_attribute("transA", 1))


def attribute_of_another_type(model: Any) -> None:
    gather = next(node for node in model.graph.node if node.op_type == "Gather")
    del gather.attribute[:]
    gather.attribute.append(helper.make_attribute("axis", 0.0))


def two_values(model: Any) -> None:
    gather = next(node for node in model.graph.node if node.op_type == "Gather")
    gather.attribute[0].f = 1.0


def more_outputs(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    node.output.extend(["mean", "deviation"])


def million_nodes(model: Any) -> None:
    for _ in range(100_000):
        model.graph.node.add(op_type="Exp", input=["a"], output=["b"])


EDITS: dict[Edit, str] = {
    external: "has external_data in its tensor",
    subgraph: "has a subgraph in its attribute",
    tensor_attribute: "has a tensor in its attribute",
    sparse: "has sparse_initializer in its graph",
    function: "has functions in its model",
    custom_domain: "is not written with ONNX's own operators",
    domain_of_a_node: "has an operator of 'ai.onnx.contrib'",
    operator: "has the operator 'Loop'",
    library: "has metadata_props in its model",
    note_on_a_node: "has part 9 in its node",
    training: "has training_info in its model",
    other_version: "is not written with ONNX's own operators of version 18",
    more_inputs: r"has the inputs .*, more \(1\), and its manifest needs observation \(3\)",
    fewer_outputs: "has the outputs",
    another_size: r"has the inputs observation \(4\), .* needs observation \(3\)",
    another_type: "has an input or output 'observation' that is not float32",
    fixed_count: r"has the inputs .*selection_noise \(8\), .* needs .*selection_noise \(K\)",
    no_shape: "lacks a 'shape'",
    sequence: "has part 4 in its type",
    huge_constant: r"has a constant 'constant_0' of shape \(1099511627776,\) in",
    negative_constant: r"has a constant 'constant_0' of shape \(-1, -4\) in",
    texts: "has a constant 'constant_0' that is neither float32 nor int64",
    terabytes: r"takes 17,59[\d,]+ bytes to choose among 8 candidates, more than 4,294,967,296",
    endless_products: r"takes 343,[\d,]+ multiplications to choose among 8 candidates, more than",
    beyond_integers: r"takes [\d,]+ bytes to choose among 8 candidates",
    squares: "has a value 'x' that grows faster than its candidates",
    computed_shape: "has a shape 'n' that depends on what is computed",
    cycle: "uses 'y' before it is computed",
    twice: "computes '.*' twice",
    other_attribute: "uses the operator 'Gemm' as no policy needs it",
    attribute_of_another_type: "uses the operator 'Gather' as no policy needs it",
    two_values: "has an attribute 'axis' that is not a plain number",
    more_outputs: "uses the operator 'LayerNormalization' as no policy needs it",
    million_nodes: "has more than 300,000 parts",
}


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if ONNX Runtime is given anything."""

    def session(*arguments: object, **options: object) -> None:
        raise AssertionError("ONNX Runtime saw it")

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: str(edit.__name__))
def test_a_graph_that_asks_for_more_than_a_policy_is_refused_before_it_is_loaded(
    bundle: Path, model: Any, edit: Edit
) -> None:
    edit(model)
    (bundle / GRAPH_FILE).write_bytes(model.SerializeToString())
    forge(bundle)
    refuses(bundle, rf"bundle: policy.onnx: {EDITS[edit]}.*; (export the bundle again|choose)")


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("length", [0, 1, 2, 50, 1000, -1, -100])
def test_a_graph_that_was_cut_off_is_one_line(bundle: Path, length: int) -> None:
    content = (bundle / GRAPH_FILE).read_bytes()
    (bundle / GRAPH_FILE).write_bytes(content[:length])
    forge(bundle)
    refuses(bundle, r"policy.onnx: .*; export the bundle again")


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_graph_is_one_line_or_loads(bundle: Path, seed: int) -> None:
    """Damage to a weight changes nothing that can be seen; but for the hash, it would load."""
    rng = np.random.default_rng(seed)
    content = bytearray((bundle / GRAPH_FILE).read_bytes())
    for position in rng.integers(len(content), size=5):
        content[position] = rng.integers(256)
    (bundle / GRAPH_FILE).write_bytes(content)
    forge(bundle)
    try:
        load_policy(bundle)
    except BundleError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right


def test_a_model_inside_of_a_field_of_another_meaning_is_refused(
    model: Any, manifest: Manifest
) -> None:
    content: bytes = model.SerializeToString()
    # The same field twice: readers may take the first, the last or both together.
    with pytest.raises(BundleError, match=r"has '.*' twice in its model"):
        require_policy_graph(content + content, manifest)
    # A part of no known number, and one of a wrong kind.
    with pytest.raises(BundleError, match="has part 99 in its model"):
        require_policy_graph(content + bytes([0x98, 0x06, 1]), manifest)
    with pytest.raises(BundleError, match="is damaged"):
        require_policy_graph(content + bytes([0x38, 1]), manifest)


@pytest.mark.parametrize("agent", AGENTS)
def test_sizes_are_those_that_onnx_itself_finds(
    tmp_path: Path, tiny_dataset: Path, agent: AgentName
) -> None:
    """An independent computation: ONNX's own shape inference."""
    export_bundle(save_untrained(tmp_path, tiny_dataset, agent), tmp_path / "b")
    content = (tmp_path / "b" / GRAPH_FILE).read_bytes()
    model = onnx.load_from_string(content)
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = 7
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    expected = {
        value.name: tuple(each.dim_value for each in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output)
    }
    ours = read_graph(content)
    shapes = _Shapes(ours, 7)
    for node in ours.nodes:
        shapes.follow(node)
    assert {name: shapes.of(name) for node in ours.nodes for name in node.outputs} == expected


def test_the_operators_are_those_of_the_export(tiny_bundle: Path) -> None:
    folder = Path(__file__).parents[3] / "dql_core" / "export"
    text = "".join(path.read_text() for path in folder.glob("onnx_*.py"))
    assert {name for name in _OPERATORS if f'"{name}"' in text} == set(_OPERATORS)
