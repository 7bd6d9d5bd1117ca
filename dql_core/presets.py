"""Named sets of defaults for a training configuration.

``paper`` is the published behaviour of Diffusion-QL, with what its code does differently from the
paper and from us (https://github.com/Zhendong-Wang/Diffusion-Policies-for-Offline-RL).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

PresetName = Literal["paper"]

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "run": {"learning_rate_decay": "cosine_every_50_epochs"},
        "data": {"normalize_observations": False, "reward_boundaries": "termination"},
        "policy": {"ema_start": 1000},
        "selection": {"temperature_scale": "raw", "weights": "online"},
        "validation": {"bc_loss_ranking": "paper_code"},
    }
}


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


def _merged(defaults: Mapping[str, Any], section: Any) -> Any:
    if isinstance(section, BaseModel):
        section = section.model_dump(exclude_unset=True)
    if section is None:
        return dict(defaults)
    return {**defaults, **section} if isinstance(section, Mapping) else section
