from pathlib import Path

import pytest
from pydantic import Field

from dql_core.errors import ConfigError
from dql_core.strict_yaml import StrictModel, parse, read_yaml


class Wheel(StrictModel):
    radius: float = Field(gt=0)
    name: str = ""


class Car(StrictModel):
    wheels: tuple[Wheel, ...]
    spare: Wheel | None = None


def test_valid_document_becomes_a_model() -> None:
    car = parse({"wheels": [{"radius": 0.3}]}, Car, "car.yaml", ConfigError)
    assert car.wheels == (Wheel(radius=0.3),)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"wheel": []}, r"^car.yaml: unknown key 'wheel' \(did you mean 'wheels'\?\)$"),
        ({"wheels": [{"radious": 1}]}, r"unknown key 'wheels.0.radious' .*mean 'radius'"),
        ({"wheels": [], "spare": {"nmae": 1}}, r"unknown key 'spare.nmae' .*mean 'name'"),
        ({"wheels": [{"radius": -1}]}, r"key 'wheels.0.radius' is -1: .* greater than 0"),
        ({}, r"^car.yaml: key 'wheels' is missing$"),
    ],
)
def test_broken_rule_is_one_line_that_names_key_and_value(
    document: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        parse(document, Car, "car.yaml", ConfigError)
    assert "\n" not in str(raised.value)


def test_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "scara.yaml").write_text("robot: scara")
    with pytest.raises(ConfigError, match=r"scra.yaml: no such file \(did you mean 'scara.yaml'"):
        read_yaml(tmp_path / "scra.yaml", ConfigError)


@pytest.mark.parametrize("text", ["a: [1", "!!python/object:os.system {}", "- 1", ""])
def test_file_that_is_no_mapping_of_plain_values_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad.yaml: (not valid yaml|must hold a mapping)"):
        read_yaml(tmp_path / "bad.yaml", ConfigError)
