import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from dql_core.algo.backends import BackendName, named_backend
from dql_core.algo.torch_backend import TorchBackend, TorchGraph, rebuild
from dql_core.errors import BundleError, ConfigError
from dql_core.runtime.bundle_policy import BundlePolicy, load_policy
from dql_core.runtime.manifest import WEIGHTS_FILE, read_bundle
from dql_core.runtime.onnx_backend import OnnxBackend, OnnxGraph
from dql_core.runtime.policy import draw_noise

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def require_equal_decisions(first: BundlePolicy, second: BundlePolicy, *, atol: float) -> None:
    """Compare two policies on equal generators, over more calls than a capture takes."""
    rngs = np.random.default_rng(0), np.random.default_rng(0)
    observations = np.random.default_rng(1)
    for _ in range(6):
        observation = observations.normal(size=3).astype(np.float32)
        expected = first.act(observation, rngs[0])
        decision = second.act(observation, rngs[1])
        for name in ("action", "q_values", "candidates"):
            found = getattr(decision, name)
            np.testing.assert_allclose(found, getattr(expected, name), atol=atol)


@pytest.mark.parametrize("num_candidates", [1, 2, 8])
def test_equal_noise_gives_equal_actions_in_either_back_end(
    tiny_bundle: Path, num_candidates: int
) -> None:
    policies = (
        load_policy(tiny_bundle, num_candidates=num_candidates, backend=named_backend(name))
        for name in ("onnx", "torch")
    )
    require_equal_decisions(*policies, atol=1e-5)


def test_decisions_keep_their_values_when_the_next_one_is_made(tiny_bundle: Path) -> None:
    for name in ("onnx", "torch"):
        policy = load_policy(tiny_bundle, backend=named_backend(name))
        rng = np.random.default_rng(0)
        decision = policy.act(np.zeros(3, np.float32), rng)
        before = decision.candidates.copy()
        policy.act(np.ones(3, np.float32), rng)
        np.testing.assert_array_equal(decision.candidates, before)


def test_one_graph_serves_any_number_of_candidates_in_turn(tiny_bundle: Path) -> None:
    manifest, contents = read_bundle(tiny_bundle)
    observation, rng = np.zeros(3, np.float32), np.random.default_rng(0)
    graphs = OnnxBackend()(manifest, contents), TorchBackend()(manifest, contents)
    for num_candidates in (3, 1, 3, 5):
        noise = draw_noise(rng, (5, num_candidates, 2), "softmax")
        first, second = (graph(observation, noise) for graph in graphs)
        assert first.candidates.shape == (num_candidates, 2)
        np.testing.assert_allclose(first.candidates, second.candidates, atol=1e-5)


def test_rebuilding_leaves_the_callers_random_numbers_alone(tiny_bundle: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    rebuild(*read_bundle(tiny_bundle))
    assert torch.rand(1) == expected


def test_rebuilt_weights_are_those_of_the_bundle(tiny_bundle: Path) -> None:
    manifest, contents = read_bundle(tiny_bundle)
    state = rebuild(manifest, contents).state_dict()
    stored = safetensors.torch.load(contents[WEIGHTS_FILE])
    assert state.keys() == stored.keys()
    for name, values in stored.items():
        assert torch.equal(state[name], values)


def test_weights_of_another_policy_are_refused(tiny_bundle: Path) -> None:
    manifest, contents = read_bundle(tiny_bundle)
    config = json.loads(json.dumps(manifest.config))
    config["policy"]["width"] = 7
    other = manifest.model_copy(update={"config": config})
    with pytest.raises(BundleError, match=r"weights.safetensors: not the weights of the policy"):
        rebuild(other, contents)
    with pytest.raises(BundleError, match=r"weights.safetensors: not the weights of the policy"):
        rebuild(manifest, contents | {WEIGHTS_FILE: b"\x80\x04pickle"})


@pytest.mark.parametrize("name", ["onnx", "torch"])
@pytest.mark.parametrize("file", ["policy.onnx", "weights.safetensors"])
def test_either_back_end_refuses_a_bundle_with_any_changed_file(
    tiny_bundle: Path, tmp_path: Path, name: BackendName, file: str
) -> None:
    for path in tiny_bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / file).write_bytes((tiny_bundle / file).read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"{file}: its SHA-256 is not the one in manifest"):
        load_policy(tmp_path, backend=named_backend(name))


def test_a_bundle_that_lacks_what_the_back_end_needs_is_refused(tiny_bundle: Path) -> None:
    manifest, _ = read_bundle(tiny_bundle)
    for backend, file in ((OnnxBackend(), "policy.onnx"), (TorchBackend(), WEIGHTS_FILE)):
        with pytest.raises(BundleError, match=f"lists no {file}; export the bundle again"):
            backend(manifest, {})


def test_auto_is_onnx_on_the_cpu() -> None:
    assert named_backend() == OnnxBackend("cpu")


def test_auto_on_cuda_is_torch_if_that_has_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert named_backend("auto", "cuda:1") == TorchBackend("cuda:1")
    assert named_backend("onnx", "cuda") == OnnxBackend("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert named_backend("auto", "cuda:1") == OnnxBackend("cuda:1")
    assert named_backend("torch", "cuda") == TorchBackend("cuda")


def test_without_torch_there_is_onnx_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert named_backend("auto", "cuda:1") == OnnxBackend("cuda:1")
    with pytest.raises(ConfigError, match="backend is 'torch', which is not installed"):
        named_backend("torch")


@pytest.mark.parametrize(
    ("name", "device", "words"),
    [
        ("jax", "cpu", "backend is 'jax': it must be auto, onnx or torch"),
        ("onnx", "gpu", "device is 'gpu': it must be cpu, cuda or cuda:0"),
        ("torch", "cuda:", "device is 'cuda:': it must be"),
    ],
)
def test_unknown_back_ends_and_devices_are_refused(name: str, device: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        named_backend(name, device)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_one_line_that_says_what_to_do(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"no CUDAExecutionProvider .* or use device 'cpu'"):
        load_policy(tiny_bundle, backend=named_backend("onnx", "cuda"))
    with pytest.raises(ConfigError, match="torch finds no CUDA device: use device 'cpu'"):
        load_policy(tiny_bundle, backend=named_backend("torch", "cuda"))


@pytest.mark.cuda
@needs_cuda
def test_a_captured_selection_is_the_one_of_the_cpu(tiny_bundle: Path) -> None:
    captured = load_policy(tiny_bundle, backend=named_backend("torch", "cuda"))
    require_equal_decisions(load_policy(tiny_bundle), captured, atol=1e-4)


@pytest.mark.cuda
@needs_cuda
def test_one_captured_graph_serves_any_number_of_candidates_in_turn(tiny_bundle: Path) -> None:
    manifest, contents = read_bundle(tiny_bundle)
    captured = TorchGraph(rebuild(manifest, contents), torch.device("cuda"))
    reference = OnnxGraph(contents["policy.onnx"])
    observation, rng = np.zeros(3, np.float32), np.random.default_rng(0)
    for num_candidates in (3, 1) * 6:
        noise = draw_noise(rng, (5, num_candidates, 2), "greedy")
        expected, decision = reference(observation, noise), captured(observation, noise)
        np.testing.assert_allclose(decision.candidates, expected.candidates, atol=1e-4)


CHOOSE_WITHOUT_TORCH = """
import sys
from pathlib import Path

from dql_core.algo.backends import named_backend
from dql_core.runtime.bundle_policy import load_policy

load_policy(Path(sys.argv[1]), backend=named_backend())
assert "torch" not in sys.modules
"""


def test_torch_is_not_imported_unless_it_is_chosen(tiny_bundle: Path) -> None:
    command = [sys.executable, "-c", CHOOSE_WITHOUT_TORCH, str(tiny_bundle)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
