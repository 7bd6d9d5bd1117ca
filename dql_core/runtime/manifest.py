"""The manifest of a policy bundle: what the policy is, and the hashes that prove it is whole."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from dql_core.documents import (
    CHECKPOINT_FILE,
    MAX_JSON_BYTES,
    RUN_FILE,
    file_within,
    parse_json,
    read_bounded,
)
from dql_core.errors import BundleError, one_line
from dql_core.normalize import Normalizer
from dql_core.runtime.policy import MAX_HORIZON, Selection, default_execute
from dql_core.spec import PolicySpec
from dql_core.strict_yaml import StrictModel, parse

MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "policy.onnx"
WEIGHTS_FILE = "weights.safetensors"
FORMAT_VERSION = 2

# All that a bundle holds beside its manifest; nothing else is opened, whatever a manifest names.
# So large would be the networks of 100 million weights.
MAX_FILE_BYTES = {GRAPH_FILE: 1 << 28, WEIGHTS_FILE: 1 << 29}
MAX_STEPS = 10_000
MAX_CANDIDATES = 1_000_000
MAX_COUNT = 1 << 53
# Random numbers of a decision, of which 50 candidates in five steps need some thousand.
MAX_NOISE = 1 << 24


class SamplerSettings(StrictModel):
    """How candidates are sampled, as it is built into the graph.

    Beside what `dql_core.config.DiffusionConfig` has, which is that of a diffusion policy only.

    Attributes:
        num_noises: Standard normal draws that an action needs for each of its dimensions, Z.
        kind: ``diffusion``, or ``mean_flow``, of one step.
    """

    num_noises: int = Field(ge=1, le=MAX_STEPS)
    kind: Literal["diffusion", "mean_flow"] = "diffusion"
    num_diffusion_steps: int = Field(ge=1, le=MAX_STEPS)
    schedule: str
    prediction: str
    sampler: str
    num_sampling_steps: int | None = Field(ge=1, le=MAX_STEPS)
    variance: str
    clip_denoised: bool


class Parity(StrictModel):
    """How far the exported graph is from the policy it was made from, on equal noise.

    Attributes:
        observations: How many observations were compared.
        source: Where they came from.
        action_error: Largest difference of a chosen action, as a share of the action range.
        candidate_error: Likewise over all candidates.
        q_error: Largest difference of a Q value, relative to the largest magnitude among the
            candidates of its observation (at least 1).
        ties: Observations on which rounding changed the choice between equally good candidates.
    """

    observations: int = Field(ge=0, le=MAX_COUNT)
    source: str
    action_error: float = Field(ge=0)
    candidate_error: float = Field(ge=0)
    q_error: float = Field(ge=0)
    ties: int = Field(ge=0, le=MAX_COUNT)


class Manifest(StrictModel):
    """Everything about a bundle that is not a weight.

    Attributes:
        format_version: Layout of the bundle.
        agent: Algorithm that trained the policy.
        step: Updates after which the checkpoint was taken.
        config_hash: Hash of the training configuration.
        config: The training configuration itself, with which the weights can be used in torch.
        spec: `PolicySpec.to_json`.
        normalizer: `Normalizer.to_json`.
        sampler: How candidates are sampled.
        has_critic: Whether candidates can be ranked.
        num_candidates: Candidates K sampled for an action unless the caller wants otherwise.
        selection: How one of them is chosen unless the caller wants otherwise.
        temperature: Of ``softmax`` and of the weights of ``mode``.
        temperature_scale: ``relative`` to the standard deviation of Q over the candidates, or
            ``raw``.
        parity: How far the graph is from the original.
        versions: Versions of the packages that made the bundle.
        files: SHA-256 of every other file of the bundle, by name.
        statistics: `Normalizer.to_json` of the training data, where ``normalizer`` leaves
            observations as they are.
        horizon: Actions of a decision, H: more than 1 if the policy samples chunks. The spec, the
            normaliser and the parity are those of one action.
        execute: Actions of a chunk that are played before the next is decided, unless the caller
            wants otherwise; ``None`` for `default_execute`.
    """

    format_version: int
    agent: str
    step: int = Field(ge=0, le=MAX_COUNT)
    config_hash: str
    config: dict[str, Any]
    spec: dict[str, Any]
    normalizer: dict[str, Any]
    sampler: SamplerSettings
    has_critic: bool
    num_candidates: int = Field(ge=1, le=MAX_CANDIDATES)
    selection: Selection
    temperature: float = Field(gt=0, allow_inf_nan=False)
    temperature_scale: str
    parity: Parity
    versions: dict[str, str]
    files: dict[str, str]
    statistics: dict[str, Any] | None = None
    horizon: int = Field(default=1, ge=1, le=MAX_HORIZON)
    execute: int | None = Field(default=None, ge=1, le=MAX_HORIZON)

    @field_validator("files")
    @classmethod
    def _files_are_those_of_a_bundle(cls, files: dict[str, str]) -> dict[str, str]:
        for name, sha256 in files.items():
            if name not in MAX_FILE_BYTES:
                raise ValueError(
                    f"names '{name:.80}', and a bundle has {' and '.join(MAX_FILE_BYTES)} only"
                )
            if not re.fullmatch("[0-9a-f]{64}", sha256):
                raise ValueError(f"'{sha256:.80}' is not a SHA-256")
        return files

    @property
    def policy_spec(self) -> PolicySpec:
        """What observation and action mean."""
        return PolicySpec.from_json(self.spec)

    @property
    def observation_normalizer(self) -> Normalizer:
        """Units of the networks."""
        return Normalizer.from_json(self.normalizer)

    @property
    def data_statistics(self) -> Normalizer:
        """Mean and spread of the training data's observations, as far as they are known."""
        return Normalizer.from_json(self.statistics or self.normalizer)

    @property
    def executed(self) -> int:
        """Actions of a chunk that are played before the next is decided."""
        return self.execute or default_execute(self.horizon)

    @property
    def sha256(self) -> str:
        """Hash of the manifest's content, which names the bundle."""
        return _sha256(json.dumps(self._content(), sort_keys=True).encode())

    def require_possible(self) -> None:
        """Refuse numbers that no policy has.

        Raises:
            ValueError: Naming the first that breaks a rule.
        """
        parity = self.parity
        if not math.isfinite(parity.action_error + parity.candidate_error + parity.q_error):
            raise ValueError("the parity is not finite")
        spec = self.policy_spec
        spec.require_sound()
        self.observation_normalizer.require_fits(spec)
        self.data_statistics.require_fits(spec)
        if self.execute is not None and self.execute > self.horizon:
            raise ValueError(
                f"execute is {self.execute}, more than the actions of a decision, horizon "
                f"{self.horizon}"
            )
        width = self.horizon * len(spec.action)
        require_draws(self.sampler.num_noises, self.num_candidates, width)

    def to_text(self) -> str:
        """Return the file's text: the content and its hash."""
        return json.dumps(self._content() | {"sha256": self.sha256}, indent=2) + "\n"

    def _content(self) -> dict[str, Any]:
        # Bundles from before there were statistics, kinds and horizons are hashed without them.
        unused = set() if self.statistics else {"statistics"}
        unused |= {"horizon"} if self.horizon == 1 else set()
        unused |= {"execute"} if self.execute is None else set()
        content = self.model_dump(mode="json", exclude=unused)
        if self.sampler.kind == "diffusion":
            del content["sampler"]["kind"]
        return content


def require_draws(num_noises: int, num_candidates: int, action_size: int) -> None:
    """Refuse decisions that take more random numbers than can be drawn in time.

    Raises:
        ValueError: If they do.
    """
    draws = num_noises * num_candidates * action_size
    if draws > MAX_NOISE:
        raise ValueError(
            f"num_candidates is {num_candidates}, which takes {draws:,} random numbers a "
            f"decision, more than {MAX_NOISE:,}"
        )


def read_bundle(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Read a bundle and prove that no byte of it has changed since it was exported.

    Returns:
        The manifest, and the content of every other file by name.

    Raises:
        BundleError: If a file is missing, changed, of an unknown format, too large, or no regular
            file in the folder itself; names the file.
    """
    manifest = read_manifest(folder)
    contents = {name: _read(folder, name, MAX_FILE_BYTES[name]) for name in manifest.files}
    for name, expected in manifest.files.items():
        if _sha256(contents[name]) != expected:
            raise BundleError(
                f"{folder / name}: its SHA-256 is not the one in {MANIFEST_FILE}: the file is "
                f"damaged or was exchanged; export the bundle again"
            )
    return manifest, contents


def read_manifest(folder: Path) -> Manifest:
    """Read only the manifest of a bundle.

    Raises:
        BundleError: If it is missing, changed by hand, damaged, or of an unknown format.
    """
    path = folder / MANIFEST_FILE
    document = parse_json(_read(folder, MANIFEST_FILE, MAX_JSON_BYTES), str(path), BundleError)
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format_version is {version!r:.80}; this version of dql reads "
            f"{FORMAT_VERSION}: export the checkpoint again"
        )
    claimed = document.pop("sha256", None)
    manifest = parse(document, Manifest, str(path), BundleError)
    if claimed != manifest.sha256:
        raise BundleError(
            f"{path}: its content does not have the SHA-256 it states: it is damaged or was "
            f"edited; export the bundle again"
        )
    try:
        manifest.require_possible()
    except ValueError as cause:
        raise BundleError(f"{path}: {one_line(cause)}; export the bundle again") from cause
    return manifest


def _read(folder: Path, name: str, limit: int) -> bytes:
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle; make one with 'dql export'")
    if not os.path.lexists(folder / name):
        for file, kind in ((RUN_FILE, "run folder"), (CHECKPOINT_FILE, "checkpoint")):
            if name == MANIFEST_FILE and os.path.lexists(folder / file):
                raise BundleError(f"{folder}: is a {kind}, not a bundle; {_bundle_of(folder)}")
        raise BundleError(f"{folder / name}: missing from the bundle; export it again")
    return read_bounded(file_within(folder, name, BundleError), limit, BundleError)


def _bundle_of(run: Path) -> str:
    """Say how to come from a run, or a checkpoint, to a bundle of it."""
    usual = run / "bundle"
    if os.path.lexists(usual / MANIFEST_FILE):
        return f"name its bundle: {usual}"
    return f"make one with 'dql export {run} --out DIR', and name that"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
