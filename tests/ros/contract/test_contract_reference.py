"""The reference page describes the contract that the code reads: every key, with its default."""

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic_core import PydanticUndefined

from dql_core.strict_yaml import StrictModel
from dql_ros.contract import (
    ActionStream,
    Contract,
    EpisodeRules,
    Event,
    FaultRules,
    FieldSelection,
    FlagStream,
    Goals,
    ObservationStream,
    Outcomes,
    Predicate,
    QualityOfService,
    RewardFunction,
    RewardTopic,
    Takeover,
    TransformStream,
)
from dql_ros.contract.units import UNITS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "contract.md").read_text()
SECTIONS: dict[str, type[StrictModel]] = {
    "Contract": Contract,
    "Observation stream": ObservationStream,
    "Transform stream": TransformStream,
    "Action stream": ActionStream,
    "Goals": Goals,
    "Field": FieldSelection,
    "Quality of service": QualityOfService,
    "Reward topic": RewardTopic,
    "Reward function": RewardFunction,
    "Episode rules": EpisodeRules,
    "Flag": FlagStream,
    "Event": Event,
    "Predicate": Predicate,
    "Fault rules": FaultRules,
    "Takeover": Takeover,
    "Outcomes": Outcomes,
}


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section '{title}'"
    return found[1]


def rows(title: str) -> dict[str, list[str]]:
    """The cells of a section's table by key: value, default, meaning."""
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", section(title), re.MULTILINE)
    return {key: [cell.strip() for cell in rest.split(" | ")] for key, rest in lines}


def test_every_section_is_of_a_model() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == list(SECTIONS)


@pytest.mark.parametrize("title", SECTIONS)
def test_every_key_is_described_and_no_other(title: str) -> None:
    assert rows(title)
    assert set(rows(title)) == set(SECTIONS[title].model_fields)
    assert all(len(cells) == 3 and cells[2].endswith(".") for cells in rows(title).values())


def documented_default(text: str) -> Any:
    """The default as the page gives it; ``...`` where it takes words to tell."""
    text = text.split(";", maxsplit=1)[0].strip("`")
    words = {"required": PydanticUndefined, "empty": "", "-.inf": -float("inf"), "{}": {}}
    if text in words:
        return words[text]
    parsed = yaml.safe_load(text)
    return ... if isinstance(parsed, str) and " " in parsed else parsed


@pytest.mark.parametrize("title", SECTIONS)
def test_the_stated_defaults_are_the_real_ones(title: str) -> None:
    for key, (_, text, _) in rows(title).items():
        field = SECTIONS[title].model_fields[key]
        stated = documented_default(text)
        if stated is PydanticUndefined:
            assert field.is_required(), key
        elif stated in ("", {}):
            default = field.get_default(call_default_factory=True, validated_data={})
            assert not default or not default.model_dump(exclude_defaults=True), key
        elif stated not in (..., "zeros", "reliable"):
            assert field.default == stated, key


@pytest.mark.parametrize("title", SECTIONS)
def test_the_choices_are_the_real_ones(title: str) -> None:
    for key, (values, _, _) in rows(title).items():
        annotation = SECTIONS[title].model_fields[key].annotation
        for member in (annotation, *get_args(annotation)):
            if get_origin(member) is Literal:
                assert re.findall(r"`(\w+)`", values) == list(get_args(member)), key


def test_the_example_is_a_contract() -> None:
    example, *_ = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    contract = Contract.model_validate(yaml.safe_load(example))
    assert [field.name for field in contract.policy_spec().action] == [
        "joint_trajectory.points.0.positions.shoulder",
        "joint_trajectory.points.0.positions.elbow",
        "speed",
    ]


def test_every_unit_is_listed() -> None:
    listed = section("Field").split("### Units")[1].split(" of: ")[1].split(". An angle")[0]
    assert set(re.findall(r"`(\S+)`", listed)) == set(UNITS)


def test_links_lead_to_sections() -> None:
    titles = re.findall(r"^##+ (.*)$", PAGE, re.MULTILINE)
    anchors = {title.lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors
