"""Read a yaml file into a strict pydantic model; whatever is wrong becomes one line."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dql_core.documents import read_bounded
from dql_core.errors import DqlError, did_you_mean
from dql_core.plain_yaml import load_yaml

# A contract or a configuration; one of a thousand fields has a tenth of it.
MAX_YAML_BYTES = 1 << 20
MAX_SHOWN = 200


class StrictModel(BaseModel):
    """A frozen section of a yaml file in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=StrictModel)


def read_yaml(path: Path, error: type[DqlError]) -> dict[str, Any]:
    """Parse a yaml mapping of plain values.

    Raises:
        DqlError: Of the kind ``error``, when the file is missing, too large, no yaml or no
            mapping, or has a key twice.
    """
    if not path.exists():
        nearby = [other.name for other in path.parent.glob("*.yaml")]
        raise error(f"{path}: no such file{did_you_mean(path.name, nearby)}")
    content = read_bounded(path, MAX_YAML_BYTES, error)
    try:
        document = load_yaml(content.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        raise error(f"{path}: not valid yaml: {' '.join(str(cause).split())}") from cause
    if not isinstance(document, dict):
        raise error(f"{path}: must hold a mapping of keys, not {type(document).__name__}")
    return document


def parse(
    document: dict[str, Any], model: type[Model], where: str, error: type[DqlError]
) -> Model:
    """Validate a parsed yaml document.

    Args:
        document: The mapping to validate.
        model: The strict model to build.
        where: The file's name, for messages.
        error: The kind of error to raise.

    Raises:
        DqlError: Of the kind ``error``, naming the first key that breaks a rule.
    """
    try:
        return model.model_validate(document)
    except ValidationError as cause:
        raise error(f"{where}: {_sentences(cause, model)[0]}") from cause


def problems_in(document: dict[str, Any], model: type[StrictModel]) -> list[str]:
    """Return all that is wrong with a parsed yaml document, a sentence each.

    What concerns several keys is looked at once each of them is right by itself.

    Args:
        document: The mapping to validate.
        model: The strict model that it is to become.
    """
    try:
        model.model_validate(document)
    except ValidationError as cause:
        return _sentences(cause, model)
    return []


def _sentences(cause: ValidationError, model: type[BaseModel]) -> list[str]:
    """Tell each problem; a validator that found several gives a line each."""
    # An unknown key is often the cause of the missing one, so it is told first.
    problems = sorted(cause.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    return [
        _sentence({**problem, "msg": line}, model)
        for problem in problems
        for line in problem["msg"].splitlines()
    ]


def _sentence(problem: dict[str, Any], model: type[BaseModel]) -> str:
    location = tuple(problem["loc"])
    # pydantic names the chosen member of a union by its class; the yaml has no such key.
    key = ".".join(str(part) for part in location if not str(part)[:1].isupper())
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{did_you_mean(str(location[-1]), _keys_at(model, location))}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not isinstance(problem["input"], str | int | float | bool):
        return f"{key}: {message}" if key else message
    return f"key '{key}' is {_shown(problem['input'])}: {message}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _keys_at(model: type[BaseModel], location: tuple[Any, ...]) -> set[str]:
    """Keys that would have been accepted beside the last part of ``location``."""
    models = {model}
    for part in location[:-1]:
        annotations = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if annotations:
            models = set().union(*(_models_in(annotation) for annotation in annotations))
        elif isinstance(part, str):
            models = {m for m in models if m.__name__ == part} or models
    return {name for each in models for name in each.model_fields}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    if get_origin(annotation) in {Annotated, Union, types.UnionType, list, tuple, dict}:
        return set().union(*(_models_in(part) for part in get_args(annotation)))
    return set()
