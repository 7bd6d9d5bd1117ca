"""Bundles that somebody made to harm: each is refused in one line, before anything reads it."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dql_core.errors import BundleError, ConfigError
from dql_core.export.torch_graph import rebuild
from dql_core.latency.bundle import plain_decisions
from dql_core.runtime import onnx_graph
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    read_bundle,
    read_manifest,
)
from dql_core.runtime.onnx_check import _OPERATORS, require_policy_graph

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def forge(bundle: Path, change: Change = lambda document: None) -> None:
    """Change a manifest, and give it the hashes of what is there now."""
    path = bundle / MANIFEST_FILE
    document = json.loads(path.read_text())
    del document["sha256"]
    document["files"] = {
        name: hashlib.sha256((bundle / name).read_bytes()).hexdigest()
        for name in document["files"]
        if (bundle / name).is_file() and not (bundle / name).is_symlink()
    }
    change(document)
    text = json.dumps(document, sort_keys=True)
    document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(document))


def refuses(bundle: Path, words: str) -> None:
    with pytest.raises(BundleError, match=words) as raised:
        load_policy(bundle)
    assert "\n" not in str(raised.value)


def test_a_forged_bundle_that_is_sound_is_read(bundle: Path) -> None:
    forge(bundle)
    load_policy(bundle)


# Files


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../secret", "manifest.json", "sub/policy.onnx", "policy.onnx/", "evil.so", ""],
)
def test_only_the_files_of_a_bundle_may_be_named(bundle: Path, name: str) -> None:
    (bundle.parent / "secret").write_text("secret")
    forge(bundle, lambda document: document["files"].update({name: "0" * 64}))
    refuses(bundle, r"manifest.json: .*names '.*', and a bundle has policy.onnx and weights")


@pytest.mark.parametrize("name", [GRAPH_FILE, WEIGHTS_FILE, MANIFEST_FILE])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: os.mkfifo(path), "is a named pipe"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to("../elsewhere"), "is a link"),
        (lambda path: path.symlink_to("/dev/zero"), "is a link"),
    ],
)
def test_what_is_no_file_of_the_folder_itself_is_not_opened(
    bundle: Path, name: str, make: Callable[[Path], None], words: str
) -> None:
    shutil.copy(bundle / name, bundle.parent / "elsewhere")
    (bundle / name).unlink()
    make(bundle / name)
    refuses(bundle, rf"{name}: {words}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")
def test_a_device_is_not_opened(bundle: Path) -> None:
    (bundle / GRAPH_FILE).unlink()
    try:
        os.mknod(bundle / GRAPH_FILE, 0o20666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("no devices can be made here")
    refuses(bundle, "policy.onnx: is a device")


def test_a_file_of_absurd_size_is_not_read(bundle: Path) -> None:
    for name in (GRAPH_FILE, WEIGHTS_FILE, MANIFEST_FILE):
        kept = (bundle / name).read_bytes()
        os.truncate(bundle / name, 1 << 40)  # a file with holes takes no room
        refuses(bundle, rf"{name}: is larger than .* bytes")
        (bundle / name).write_bytes(kept)


def test_what_lies_beside_the_known_files_is_never_opened(bundle: Path) -> None:
    os.mkfifo(bundle / "notes")
    load_policy(bundle)


# Manifest


def put(key: str, value: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        *sections, last = key.split(".")
        for section in sections:
            document = document[section]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("num_candidates", 10**9), "key 'num_candidates' is 1000000000"),
        (put("num_candidates", 900_000), r"bundle: policy.onnx: takes .* 900,000 candidates"),
        (put("sampler.num_noises", 10**9), "sampler.num_noises"),
        (put("sampler.num_diffusion_steps", -1), "sampler.num_diffusion_steps"),
        (put("sampler.num_sampling_steps", 10**12), "sampler.num_sampling_steps"),
        (put("temperature", float("nan")), "temperature"),
        (put("temperature", float("inf")), "temperature"),
        (put("temperature", 10**400), "temperature"),
        (put("step", 10**30), "step"),
        (put("step", -1), "step"),
        (put("parity.action_error", float("nan")), "parity.action_error"),
        (put("parity.observations", 1 << 80), "parity.observations"),
        (put("normalizer.observation_std", [0.0, 1.0, 1.0]), "observation_std must be above 0"),
        (put("normalizer.observation_std", [-1.0, 1.0, 1.0]), "observation_std must be above 0"),
        (put("normalizer.observation_std", [1e-60, 1.0, 1.0]), "observation_std must be above 0"),
        (put("normalizer.observation_std", [float("nan"), 1.0, 1.0]), "manifest.json: "),
        (put("normalizer.observation_mean", [1e300, 1.0, 1.0]), "beyond what float32"),
        (put("normalizer.observation_mean", [10**400, 1.0, 1.0]), "beyond what float32"),
        (put("normalizer.observation_mean", [1.0]), "has not as many numbers"),
        (put("normalizer.observation_mean", ["1", 1.0, 1.0]), "is no list of numbers"),
        (put("normalizer.observation_mean", [[1.0], [1.0], [1.0]]), "is no list of numbers"),
        (put("normalizer", {}), "is no list of numbers"),
        (put("normalizer.action_high", [1.0, 100.0]), "action_high is not that of the spec"),
        (put("spec.rate_hz", float("nan")), "manifest.json: "),
        (put("spec.rate_hz", 1e300), "rate_hz is 1e[+]300, beyond"),
        (put("spec.rate_hz", -20.0), "rate_hz is -20.0, beyond"),
        (put("spec.rate_hz", "20"), "'rate_hz' is '20'"),
        (put("spec.action", []), "has no action field"),
        (put("spec.action", None), "'action' is None"),
        (put("spec.action", [7, 8]), "'low' is missing"),
        (put("spec", []), "spec"),
        (put("files", []), "files"),
        (put("files", {GRAPH_FILE: 7}), "files"),
        (put("files", {GRAPH_FILE: "../../x"}), "is no SHA-256"),
        (put("files", {}), "the manifest lists no policy.onnx"),
        (put("selection", "evil"), "selection"),
    ],
)
def test_impossible_numbers_are_refused(bundle: Path, change: Change, words: str) -> None:
    forge(bundle, change)
    refuses(bundle, words)


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, -1.0), (None, 1.0), (float("nan"), 1.0), (-1e60, 1.0), (-(10**400), 1.0)]
)
def test_impossible_bounds_of_an_action_are_refused(
    bundle: Path, low: float | None, high: float
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["spec"]["action"][0] |= {"low": low, "high": high}

    forge(bundle, change)
    refuses(bundle, "manifest.json: ")


@pytest.mark.parametrize(
    "text",
    [
        '{"format_version": 2, "config": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"format_version": 2, "a": ' * 50_000 + "1" + "}" * 50_000,
        '{"format_version": 2, "format_version": 2}',
        '{"format_version": 2, "step": ' + "9" * 5000 + "}",
        "[2]",
        "\xff\xfe",
        "",
        "null",
    ],
)
def test_a_manifest_that_is_no_document_of_ours_is_one_line(bundle: Path, text: str) -> None:
    (bundle / MANIFEST_FILE).write_bytes(text.encode("latin-1"))
    refuses(bundle, "manifest.json: damaged: ")


def test_a_callers_absurd_number_of_candidates_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="num_candidates is 1000000000, .*: choose among fewer"):
        load_policy(tiny_bundle, num_candidates=10**9)
    with pytest.raises(BundleError, match="to choose among 1,500,000 candidates, .*; choose among"):
        load_policy(tiny_bundle, num_candidates=1_500_000)


def test_networks_that_the_weights_cannot_hold_are_not_made(bundle: Path) -> None:
    forge(bundle, put("config.policy.width", 10_000))
    manifest, contents = read_bundle(bundle)
    with pytest.raises(BundleError, match=r"its networks need .* bytes of weights, and the file"):
        rebuild(manifest, contents)


@pytest.mark.parametrize("key", ["width", "depth"])
def test_networks_of_absurd_sizes_are_not_made_to_compare_with(bundle: Path, key: str) -> None:
    forge(bundle, put(f"config.policy.{key}", 10**9))
    with pytest.raises(BundleError, match=rf"policy.{key}' is 1000000000"):
        plain_decisions(read_manifest(bundle), threads=1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 100,
        (1 << 62).to_bytes(8, "little") + b"{}",
        (5).to_bytes(8, "little") + b"[[[[[",
        (100).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1e9],"data_offsets":[0,4]}}',
    ],
)
def test_damaged_weights_are_one_line(bundle: Path, content: bytes) -> None:
    (bundle / WEIGHTS_FILE).write_bytes(content)
    forge(bundle)
    manifest, contents = read_bundle(bundle)
    with pytest.raises(BundleError, match=r"weights.safetensors: not the weights of") as raised:
        rebuild(manifest, contents)
    assert "\n" not in str(raised.value)


# Graph

Edit = Callable[[Any], object]


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


EDITS = {
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
    another_type: "has an input or output 'observation' that is no float32",
    fixed_count: r"has the inputs .*selection_noise \(8\), .* needs .*selection_noise \(K\)",
    no_shape: "lacks a 'shape'",
    sequence: "has part 4 in its type",
    huge_constant: r"has a constant 'constant_0' of shape \(1099511627776,\) in",
    negative_constant: r"has a constant 'constant_0' of shape \(-1, -4\) in",
    texts: "has a constant 'constant_0' that is no float32 or int64",
    terabytes: r"takes 17,59[\d,]+ bytes to choose among 8 candidates, more than 4,294,967,296",
    beyond_integers: r"takes [\d,]+ bytes to choose among 8 candidates",
    squares: "has a value 'x' that grows faster than its candidates",
    computed_shape: "has a shape 'n' that depends on what is computed",
    cycle: "uses 'y' before it is computed",
    twice: "computes '.*' twice",
    other_attribute: "uses the operator 'Gemm' as no policy needs it",
    attribute_of_another_type: "uses the operator 'Gather' as no policy needs it",
    two_values: "has an attribute 'axis' that is no plain number",
    more_outputs: "uses the operator 'LayerNormalization' as no policy needs it",
    million_nodes: "has more than 300,000 parts",
}


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if ONNX Runtime is given anything."""

    def session(*arguments: object, **options: object) -> None:
        raise AssertionError("ONNX Runtime saw it")

    monkeypatch.setattr(onnx_graph.onnxruntime, "InferenceSession", session)


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
    with pytest.raises(BundleError, match="has '.*' twice in its model"):
        require_policy_graph(content + content, manifest)
    # A part of no known number, and one of a wrong kind.
    with pytest.raises(BundleError, match="has part 99 in its model"):
        require_policy_graph(content + bytes([0x98, 0x06, 1]), manifest)
    with pytest.raises(BundleError, match="is damaged"):
        require_policy_graph(content + bytes([0x38, 1]), manifest)


@pytest.mark.parametrize("agent", ["diffusion_ql", "diffusion_bc", "td3_bc"])
def test_sizes_are_those_that_onnx_itself_finds(
    tmp_path: Path, tiny_dataset: Path, agent: Any
) -> None:
    """An independent computation: ONNX's own shape inference."""
    from dql_core.export.bundle import export_bundle  # noqa: PLC0415
    from dql_core.runtime.onnx_check import _Shapes  # noqa: PLC0415
    from dql_core.runtime.onnx_file import read_graph  # noqa: PLC0415
    from tests.core.conftest import save_untrained  # noqa: PLC0415

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
    folder = Path(__file__).parents[2] / "dql_core" / "export"
    text = "".join(path.read_text() for path in folder.glob("onnx_*.py"))
    assert {name for name in _OPERATORS if f'"{name}"' in text} == set(_OPERATORS)
