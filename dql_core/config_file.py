"""Read a training configuration from yaml, with overrides from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dql_core.config import TrainConfig
from dql_core.errors import ConfigError
from dql_core.plain_yaml import load_yaml
from dql_core.strict_yaml import parse, read_yaml


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration file and apply ``section.key=value`` overrides to it.

    Args:
        path: The yaml file.
        overrides: As on the command line; the value is read as yaml.

    Raises:
        ConfigError: Naming the file or the override, the key, its value and the rule it breaks.
    """
    document = read_yaml(path, ConfigError)
    config = parse(document, TrainConfig, str(path), ConfigError)
    breach: ConfigError | None = None
    for override in overrides:
        _apply(document, override)
        try:
            config = parse(document, TrainConfig, f"--set {override}", ConfigError)
            breach = None
        except ConfigError as error:
            breach = breach or error  # which a later override may mend
    if breach:
        raise breach
    return config


def _apply(document: dict[str, Any], override: str) -> None:
    """Set one dotted key of ``document`` in place."""
    key, equals, text = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not all([*sections, last]):
        raise ConfigError(f"--set {override}: must have the form section.key=value")
    for section in sections:
        if document.get(section) is None:
            document[section] = {}
        document = document[section]
        if not isinstance(document, dict):
            raise ConfigError(f"--set {override}: '{section}' is a value and has no keys")
    try:
        document[last] = load_yaml(text)
    except yaml.YAMLError as cause:
        raise ConfigError(f"--set {override}: the value is not valid yaml") from cause
