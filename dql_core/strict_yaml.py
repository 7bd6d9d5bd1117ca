"""Reads a yaml file into a strict pydantic model; whatever is wrong becomes one line.

A few lines of yaml can expand to gigabytes, by aliases of aliases and by merge keys (``<<``). So
each node is measured with all that its aliases expand to, before any value is made of it.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode
from yaml.resolver import Resolver

from dql_core.documents import MAX_DEPTH, read_bounded
from dql_core.errors import ConfigError, DqlError, did_you_mean, did_you_mean_path, one_line

# A contract or a configuration; one of a thousand fields has a tenth of it.
MAX_YAML_BYTES = 1 << 20
MAX_SHOWN = 200
# A contract of a thousand fields has a third of it.
MAX_VALUES = 50_000
MAX_NUMBER_LENGTH = 128
MAX_OTHER_KEYS = 1000
# A path that selects by a name, without the quotes that it needs in a flow mapping.
_BARE = re.compile(rb"path: {0,9}\w[\w.]{0,99}\[[\w.]{1,99}=")
_MUST_BE = {
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "tuple_type": "must be a list",
}
_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "str": "text"}
_TEXT = "tag:yaml.org,2002:str"
# What SafeConstructor raises beside YAMLError, for example of '!!int x' and of the 31st of June.
_NO_VALUE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class StrictModel(BaseModel):
    """A frozen section of a yaml file in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=StrictModel)
# What must not be empty.
Name = Annotated[str, Field(min_length=1)]


def written_like(pattern: str, form: str) -> AfterValidator:
    """A rule for a key's text that is said in words, not as a regular expression.

    Args:
        pattern: Regular expression of the whole text.
        form: What it asks for, such as ``must be like package/msg/Name``.
    """

    def checked(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(form)
        return text

    return AfterValidator(checked)


def read_yaml(path: Path, error: type[DqlError], example: str = "") -> dict[str, Any]:
    """Parse a yaml mapping of plain values.

    Args:
        path: The file.
        error: The kind of error to raise.
        example: A line of such a file, where it must have a key.

    Raises:
        DqlError: Of the kind ``error``, when the file is missing, too large, no yaml or no
            mapping, or has a key twice, or none though it must.
    """
    if not path.exists():
        nearby = path.parent.glob("*.yaml")
        raise error(f"{path}: no such file{did_you_mean_path(path, nearby)}")
    content = read_bounded(path, MAX_YAML_BYTES, error)
    try:
        document = load_yaml(content.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        hint = "; within {...} a path with [...] needs quotes" if _BARE.search(content) else ""
        raise error(f"{path}: not valid yaml: {one_line(cause)}{hint}") from cause
    if example and not document:
        raise error(f"{path}: names no key; write, for example: {example}")
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
        raise error(f"{where}: {_sentences(cause, model, document)[0]}") from cause


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
        return _sentences(cause, model, document)
    return []


def _sentences(
    cause: ValidationError, model: type[BaseModel], document: dict[str, Any]
) -> list[str]:
    """Say each problem once; a validator that found several gives a line each."""
    problems = _of_unions_once([dict(problem) for problem in cause.errors()], document)
    causes = [problem for problem in problems if not _follows(problem, problems)]
    # An unknown key is often the cause of the missing one, so it comes first.
    causes.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    sentences = (
        _sentence({**problem, "msg": line}, model)
        for problem in causes
        for line in problem["msg"].splitlines()
    )
    return list(dict.fromkeys(sentences))


def _of_unions_once(
    problems: Sequence[dict[str, Any]], document: dict[str, Any]
) -> list[dict[str, Any]]:
    """Say one thing of a value for which pydantic names a problem for each member of a union.

    Args:
        problems: As pydantic gives them; each member is a part of the location.
        document: What was validated; such a part is no key of it.
    """
    found: list[dict[str, Any]] = []
    unions: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
    for problem in problems:
        location = problem["loc"]
        place = _first_member(problem, document)
        if place is None:
            found.append(problem)
            continue
        union = unions.setdefault(location[:place], {})
        if not union:
            found.append({"loc": location[:place], "union": union})
        inner = {**problem, "loc": (*location[:place], *location[place + 1 :])}
        union.setdefault(location[place], []).append(inner)
    return [
        each
        for problem in found
        for each in (
            _of_unions_once(_of_the_member_meant(problem["loc"], problem["union"]), document)
            if "union" in problem
            else [problem]
        )
    ]


def _first_member(problem: dict[str, Any], document: Any) -> int | None:
    """Where in a problem's location a member of a union is named; ``None`` if nowhere."""
    node, location = document, problem["loc"]
    for place, part in enumerate(location):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list | tuple) and isinstance(part, int):
            node = node[part] if part < len(node) else None
        elif isinstance(part, str) and _member_words(part):
            return place
    return None


def _of_the_member_meant(
    location: tuple[Any, ...], members: dict[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The problems with the member of a union that a value is of; one if it is of none."""
    for problems in members.values():
        if any(each["loc"] != location or not _is_of_another_kind(each) for each in problems):
            return problems
    first = next(iter(members.values()))[0]
    kinds = list(dict.fromkeys(_member_words(member) for member in members))
    wanted = " or ".join([", ".join(kinds[:-1]), kinds[-1]] if len(kinds) > 1 else kinds)
    return [{**first, "type": "union", "msg": f"must be {wanted}"}]


def _is_of_another_kind(problem: dict[str, Any]) -> bool:
    kind = str(problem["type"])
    return kind == "literal_error" or kind.endswith(("_type", "_parsing", "_from_float"))


def _member_words(member: str) -> str:
    """What pydantic's name of a union's member means; empty for what is no such name."""
    if member.startswith("literal["):
        return member.removeprefix("literal[").removesuffix("]")
    if member.startswith(("tuple[", "list[")):
        return "a list of numbers" if "union" not in member and "float" in member else "a list"
    return _KINDS.get(member.removeprefix("constrained-"), "")


def _follows(problem: dict[str, Any], problems: Sequence[dict[str, Any]]) -> bool:
    """Whether a problem only follows from another one, without which it would not be there."""
    if problem["type"] == "too_short":  # none of the entries is valid
        depth = len(problem["loc"])
        return any(
            other["loc"][:depth] == problem["loc"] and len(other["loc"]) > depth
            for other in problems
        )
    return str(problem["type"]) == "default_factory_not_called"


def _sentence(problem: dict[str, Any], model: type[BaseModel]) -> str:
    location = tuple(problem["loc"])
    # pydantic names the chosen member of a union by its class; the yaml has no such key.
    key = ".".join(str(part) for part in location if not str(part)[:1].isupper())
    if problem["type"] == "extra_forbidden":
        found = _in_sections(model, key)
        if len(found) == 1:
            return f"unknown key '{key}' (did you mean '{found[0]}'?)"
        return f"unknown key '{key}'{did_you_mean(str(location[-1]), _keys_at(model, location))}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "too_short":
        return f"{key}: is empty; it needs an entry"
    message = _MUST_BE.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if not isinstance(problem["input"], str | int | float | bool):
        return f"{key}: {message}" if key else message
    shown = repr(problem["input"])
    shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"
    return f"key '{key}' is {shown}: {message}"


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


def _in_sections(model: type[BaseModel], key: str) -> list[str]:
    """Return where a section of the top has a key of this name."""
    return [
        f"{name}.{key}"
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and key in field.annotation.model_fields
    ]


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    if get_origin(annotation) in {Annotated, Union, types.UnionType, list, tuple, dict}:
        return set().union(*(_models_in(part) for part in get_args(annotation)))
    return set()


def load_yaml(text: str, *, max_values: int = MAX_VALUES, doubled: list[str] | None = None) -> Any:
    """Return the plain value that a text describes.

    Args:
        text: One yaml document.
        max_values: Most scalars, lists and mappings that it may expand to.
        doubled: Takes a sentence for each key that appears twice in a mapping, whose last value
            then counts; ``None`` to refuse them.

    Raises:
        yaml.YAMLError: If it is no yaml, has a key twice, contains itself, expands to too much, is
            nested more than `MAX_DEPTH` deep, or asks for another object.
    """
    with _in_our_words():
        return _PlainLoader(text, max_values, doubled).get_single_data()


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Say what the parser finds wrong as we do, whichever release of it and of libyaml it is."""
    try:
        yield
    except yaml.MarkedYAMLError as cause:
        if "nesting depth" not in str(cause.problem):  # which libyaml counts from 0.2.6 on
            raise
        raise yaml.YAMLError(f"is nested more than {MAX_DEPTH} deep") from cause
    except _NO_VALUE as cause:
        raise yaml.YAMLError(f"a value is not valid: {cause}") from cause


def parse_assignment(text: str, option: str, form: str) -> tuple[str, Any]:
    """Read ``key=value`` of a command line, whose value is yaml.

    Args:
        text: As it was given.
        option: What it was given to, for messages.
        form: What it must be like, for messages.

    Raises:
        ConfigError: If it is not so.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not all(part.isidentifier() for part in key.split(".")):
        raise ConfigError(f"{option} {text}: must have the form {form}")
    try:
        return key, load_yaml(value)
    except yaml.YAMLError as cause:
        raise ConfigError(f"{option} {text}: the value is not valid yaml") from cause


def compose_yaml(text: str) -> Node | None:
    """Return the nodes of a text, whose tags may be of any kind; ``None`` if it is empty.

    Raises:
        yaml.YAMLError: As `load_yaml`.
    """
    with _in_our_words():
        node: Node | None = _PlainLoader(text, MAX_VALUES, None).get_single_node()
    return node


try:
    from yaml._yaml import CParser

    class _SafeLoader(Composer, CParser, SafeConstructor, Resolver):
        """yaml's safe loader with the parser in C, which makes it five times as fast.

        Not so yaml's own CSafeLoader, whose composer overruns its stack on deep nesting.
        """

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

except ImportError:
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]


class _PlainLoader(_SafeLoader):
    """A safe loader that measures what it composes."""

    def __init__(self, text: str, max_values: int, doubled: list[str] | None) -> None:
        super().__init__(text)
        self._max_values = max_values
        self._doubled = doubled
        self._open = 0
        # How many values and how deep a nesting each finished node expands to.
        self._extents: dict[Node, tuple[int, int]] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        is_alias = self.check_event(AliasEvent)
        self._open += 1
        self._require_within(len(self._extents), self._open)
        node = super().compose_node(parent, index)
        self._open -= 1
        if is_alias:
            if node not in self._extents:
                self._refuse("contains itself", node)
        elif node is not None:
            self._extents[node] = self._extent(node)
        return node

    def _extent(self, node: Node) -> tuple[int, int]:
        if isinstance(node, ScalarNode):
            if node.tag != _TEXT and len(node.value) > MAX_NUMBER_LENGTH:
                self._refuse(f"has a number of {len(node.value)} characters", node)
            return 1, 0
        children = node.value
        if isinstance(node, MappingNode):
            self._look_for_doubled(node)
            children = [each for pair in node.value for each in pair]
        extents = [self._extents[child] for child in children]
        size = 1 + sum(size for size, _ in extents)
        depth = 1 + max((depth for _, depth in extents), default=0)
        self._require_within(size, depth, node)
        return size, depth

    def _look_for_doubled(self, mapping: MappingNode) -> None:
        lines: dict[tuple[str, str], int] = {}
        keys = [key for key, _ in mapping.value if isinstance(key, ScalarNode)]
        # Of numbers, unlike texts, somebody can choose many that Python's hash takes for the same.
        others = sum(key.tag != _TEXT for key in keys)
        if others > MAX_OTHER_KEYS:
            self._refuse(f"has {others} keys that are not texts", mapping)
        for key in keys:
            line = key.start_mark.line + 1
            if first := lines.get((key.tag, key.value)):
                text = f"key '{key.value[:60]}' appears twice, in line {first} and in line {line}"
                if self._doubled is None:
                    raise yaml.YAMLError(f"{text}: keep one")
                self._doubled.append(text)
            lines[key.tag, key.value] = line

    def _require_within(self, size: int, depth: int, node: Node | None = None) -> None:
        if size > self._max_values:
            self._refuse(f"expands to more than {self._max_values:,} values", node)
        if depth > MAX_DEPTH:
            self._refuse(f"is nested more than {MAX_DEPTH} deep", node)

    @staticmethod
    def _refuse(problem: str, node: Node | None) -> NoReturn:
        where = "" if node is None else f"what begins in line {node.start_mark.line + 1} "
        raise yaml.YAMLError(f"{where}{problem}")
