"""Bundles that somebody made to harm: files and manifests that are refused in one line."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.algo.torch_backend import rebuild
from dql_core.errors import BundleError, ConfigError
from dql_core.export.latency import plain_decisions
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    read_bundle,
    read_manifest,
)

pytestmark = pytest.mark.slow

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


def accepts(bundle: Path, original: Path) -> None:
    """Check that a bundle decides as the one it is made from."""
    observation = np.zeros(3, np.float32)
    first, second = (
        load_policy(path).act(observation, np.random.default_rng(0)) for path in (bundle, original)
    )
    np.testing.assert_array_equal(first.action, second.action)


def test_a_forged_bundle_that_is_sound_is_read(bundle: Path, tiny_bundle: Path) -> None:
    forge(bundle)
    accepts(bundle, tiny_bundle)


# Files
@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../secret",
        "manifest.json",
        "sub/policy.onnx",
        "policy.onnx/",
        "evil.so",
        "",
    ],
)
def test_only_the_files_of_a_bundle_may_be_named(bundle: Path, name: str) -> None:
    (bundle.parent / "secret").write_text("secret")
    forge(bundle, lambda document: document["files"].update({name: "0" * 64}))
    refuses(bundle, r"manifest.json: .*names '.*', and a bundle has policy.onnx and weights")


@pytest.mark.parametrize("name", [GRAPH_FILE, WEIGHTS_FILE, MANIFEST_FILE])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "is a named pipe"),
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


def test_what_lies_beside_the_known_files_is_never_opened(bundle: Path, tiny_bundle: Path) -> None:
    os.mkfifo(bundle / "notes")
    accepts(bundle, tiny_bundle)


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
        (put("parity.action_error", float("inf")), "manifest.json: "),
        (put("parity.observations", 1 << 80), "parity.observations"),
        (put("normalizer.observation_std", [0.0, 1.0, 1.0]), "observation_std must be above 0"),
        (put("normalizer.observation_std", [-1.0, 1.0, 1.0]), "observation_std must be above 0"),
        (put("normalizer.observation_std", [1e-60, 1.0, 1.0]), "observation_std must be above 0"),
        (put("normalizer.observation_std", [float("nan"), 1.0, 1.0]), "manifest.json: "),
        (put("normalizer.observation_mean", [1e300, 1.0, 1.0]), "beyond what float32"),
        (put("normalizer.observation_mean", [10**400, 1.0, 1.0]), "beyond what float32"),
        (put("normalizer.observation_mean", [1.0]), "has not as many numbers"),
        (put("normalizer.observation_mean", ["1", 1.0, 1.0]), "is not a list of numbers"),
        (put("normalizer.observation_mean", [[1.0], [1.0], [1.0]]), "is not a list of numbers"),
        (put("normalizer", {}), "is not a list of numbers"),
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
        (put("files", {GRAPH_FILE: "../../x"}), "is not a SHA-256"),
        (put("files", {}), "the manifest lists no policy.onnx"),
        (put("selection", "evil"), "selection"),
    ],
)
def test_impossible_numbers_are_refused(bundle: Path, change: Change, words: str) -> None:
    forge(bundle, change)
    refuses(bundle, words)


@pytest.mark.parametrize(
    ("low", "high"),
    [(1.0, -1.0), (None, 1.0), (float("nan"), 1.0), (-1e60, 1.0), (-(10**400), 1.0)],
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
    with pytest.raises(ConfigError, match=r"num_candidates is 1000000000, .*: choose among fewer"):
        load_policy(tiny_bundle, num_candidates=10**9)
    with pytest.raises(
        BundleError, match=r"to choose among 1,500,000 candidates, .*; choose among"
    ):
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
