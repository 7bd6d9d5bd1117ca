import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from dql_core.errors import ConfigError
from dql_core.strict_yaml import StrictModel, parse, read_yaml, written_like


class Wheel(StrictModel):
    radius: float = Field(gt=0)
    name: str = ""
    tyre: Annotated[str, written_like(r"\d+/\d+", "must be like 205/55")] = ""


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
        (
            {"wheels": [{"radius": 1, "tyre": "205/55\n"}]},
            r"^car.yaml: key 'wheels.0.tyre' is '205/55\\n': must be like 205/55$",
        ),
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
    with pytest.raises(ConfigError, match=r"scra.yaml: no such file \(did you mean '.*/scara.yam"):
        read_yaml(tmp_path / "scra.yaml", ConfigError)


@pytest.mark.parametrize("text", ["a: [1", "!!python/object:os.system {}", "- 1", ""])
def test_file_that_is_no_mapping_of_plain_values_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad.yaml: (not valid yaml|must hold a mapping)"):
        read_yaml(tmp_path / "bad.yaml", ConfigError)


def chained(line: str) -> str:
    """Thirty lines of yaml, each of which has the one before ten times."""
    lines = (line.format(i=i, ten=", ".join([f"*a{i - 1}"] * 10)) for i in range(1, 30))
    return "a0: &a0 {k: 1}\n" + "".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (chained("a{i}: &a{i} [{ten}]\n"), "expands to more than 50,000 values"),
        (chained("a{i}: &a{i} {{<<: [{ten}]}}\n"), "expands to more than 50,000 values"),
        ("[" + "1," * 500_000 + "]", "expands to more than 50,000 values"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 5000)), "deep"),
        ("[" * 100_000, "is nested more than 64 deep"),
        ("- " * 100_000 + "x", "is nested more than 64 deep"),
        ("{a: " * 50_000, "is nested more than 64 deep"),
        ("a: &a [*a]", "line 1 contains itself"),
        ("a: " + ":".join(["1"] * 200_000), "has a number of 399999 characters"),
        ("a: " + "9" * 5000, "has a number of 5000 characters"),
        ("{" + ", ".join(f"{i * (2**61 - 1)}: 1" for i in range(9000)) + "}", "are not texts"),
        ("a: !!int x", "a value is not valid"),
        ("a: 2001-31-31", "a value is not valid"),
        ("a: !!bool maybe", "a value is not valid"),
        ("a: 1\nb: 2\na: 3\n", "key 'a' appears twice, in line 1 and in line 3: keep one"),
        ('x:\n  - {a: 1, "a": 2}\n', "key 'a' appears twice, in line 2 and in line 2"),
        ("a: " + "x" * (1 << 20), "is larger than 1,048,576 bytes"),
    ],
)
def test_a_hostile_or_ambiguous_text_is_soon_refused_in_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    before = time.process_time()
    with pytest.raises(ConfigError, match=words) as raised:
        read_yaml(path, ConfigError)
    assert time.process_time() - before < 1.5
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_the_parser_without_c_measures_alike() -> None:
    code = (
        "import sys; sys.modules['yaml._yaml'] = None\n"
        "from dql_core.strict_yaml import load_yaml\n"
        "assert load_yaml('{a: &x [1, 2.5], b: *x}') == {'a': [1, 2.5], 'b': [1, 2.5]}\n"
        "try: load_yaml('a: &a [*a]')\n"
        "except Exception as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "what begins in line 1 contains itself\n"


def test_aliases_and_merge_keys_of_a_sound_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n")
    point = {"x": 1, "y": 2}
    assert read_yaml(path, ConfigError) == {"a": point, "b": {"x": 1, "y": 3}, "c": [point, point]}


def test_a_long_value_is_told_by_its_beginning() -> None:
    with pytest.raises(ConfigError, match=r"key 'wheels.0.radius' is 'xxxx") as raised:
        parse({"wheels": [{"radius": "x" * 100_000}]}, Car, "car.yaml", ConfigError)
    assert len(str(raised.value)) < 400


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match=r"pipe.yaml: is a named pipe, not a regular file"):
        read_yaml(tmp_path / "pipe.yaml", ConfigError)
