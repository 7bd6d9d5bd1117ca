"""Keys that a configuration does not state: those of presets, and those of other versions.

A document here is a configuration as a file has it, not validated yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

# Keys of earlier versions by section, which changed no result: read in old runs and left out.
RETIRED_KEYS = {"run": {"needless_gradients"}}
# What saved configurations meant that are older than a key, where that is not its default.
BEFORE_THE_KEY: dict[str, dict[str, Any]] = {
    "diffusion": {"loss": "prediction"},
    "policy": {"max_imitation_ratio": None},
    "critic": {"bound_targets": False},
}
# A former default of policy.max_imitation_ratio, which runs and bundles of all agents have saved.
FORMER_RATIO = 1.5
# Later keys, and where they change nothing: there the hash of a configuration leaves them out.
NEUTRAL: dict[str, dict[str, Any]] = {
    "diffusion": {"loss": "prediction"},
    "policy": {"horizon": 1},
    "data": {"previous_action_dropout": 0.0},
}
# Section ``data`` where policy.horizon is more than 1: a chunk is as many steps already.
WITH_CHUNKS: dict[str, Any] = {"n_step": 1}
PresetName = Literal["paper"]
# Defaults by the name of a preset.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "run": {"learning_rate_decay": "cosine_every_50_epochs"},
        "data": {
            "normalize_observations": False,
            "reward_boundaries": "termination",
            "reward_scale": 1.0,
            "n_step": 1,
        },
        "diffusion": {"schedule": "vp", "prediction": "epsilon"},
        "policy": {"learning_rate": 3e-4, "max_imitation_ratio": None, "ema_start": 1000},
        "critic": {"layer_norm": False, "learning_rate": 3e-4, "bound_targets": False},
        "selection": {"rule": "softmax", "temperature_scale": "raw", "weights": "online"},
        "validation": {"bc_loss_ranking": "paper_code"},
    }
}


def filled_in(document: Any) -> Any:
    """Return ``document`` without what is retired and with the defaults that it asks for."""
    return _with_chunk_defaults(with_preset(without_retired_keys(document)))


def with_preset(document: Any) -> Any:
    """Return ``document`` with its preset's values where it says nothing of its own.

    Args:
        document: A configuration that is not validated yet; whatever is no mapping, or names no
            known preset, is returned as it is and refused later.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("preset"), str):
        return document
    defaults = PRESETS.get(document["preset"], {})
    return {
        **document,
        **{name: _merged(values, document.get(name)) for name, values in defaults.items()},
    }


def as_saved(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that a run saved, with what keys mean that came after it.

    A saved configuration has every key of its time, so it says nothing of later ones only.
    """
    before = {name: _merged(keys, document.get(name)) for name, keys in BEFORE_THE_KEY.items()}
    return {**document, **before}


def without_retired_keys(document: Any) -> Any:
    """Drop what configurations of earlier runs have, and what no longer changes anything."""
    if not isinstance(document, Mapping):
        return document
    kept = dict(document)
    for section, keys in RETIRED_KEYS.items():
        if isinstance(kept.get(section), Mapping):
            kept[section] = {k: value for k, value in kept[section].items() if k not in keys}
    return kept


def without_neutral_keys(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole configuration without the later keys that change nothing."""
    kept = dict(document)
    for section, keys in NEUTRAL.items():
        kept[section] = {k: v for k, v in kept[section].items() if k not in keys or v != keys[k]}
    if kept["diffusion"]["prediction"] == "epsilon":  # all losses are one
        kept["diffusion"].pop("loss", None)
    return kept


def _with_chunk_defaults(document: Any) -> Any:
    """Return ``document`` with what is the default where the policy emits chunks."""
    if not isinstance(document, Mapping):
        return document
    policy = document.get("policy")
    keys = policy if isinstance(policy, Mapping) else getattr(policy, "__dict__", {})
    horizon = keys.get("horizon", 1)
    if not isinstance(horizon, int) or horizon <= 1:
        return document
    return {**document, "data": _merged(WITH_CHUNKS, document.get("data"))}


def _merged(defaults: Mapping[str, Any], section: Any) -> Any:
    if isinstance(section, BaseModel):
        section = section.model_dump(exclude_unset=True)
    if section is None:
        return dict(defaults)
    return {**defaults, **section} if isinstance(section, Mapping) else section
