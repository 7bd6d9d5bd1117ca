"""A policy from whatever a user points at: a run folder, a checkpoint or a bundle."""

from __future__ import annotations

import os
from pathlib import Path

from dql_core.errors import CheckpointError
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.manifest import MANIFEST_FILE
from dql_core.runtime.policy import Policy
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.run_files import CheckpointName


def load_any_policy(path: Path, which: CheckpointName = "last") -> Policy:
    """Load a policy: a bundle with ONNX Runtime, anything else with its own networks.

    Args:
        path: A bundle, checkpoint or run folder.
        which: Which checkpoint of a run.

    Raises:
        BundleError: If ``path`` is a damaged bundle.
        CheckpointError: If it is neither bundle, checkpoint nor run folder, or is damaged, or
            has no such checkpoint.
    """
    if os.path.lexists(path / MANIFEST_FILE):
        if which != "last":
            raise CheckpointError(f"{path}: a bundle holds one policy; give its run for '{which}'")
        return load_policy(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run folder, checkpoint or bundle")
    return load_checkpoint(path, which=which).policy()
