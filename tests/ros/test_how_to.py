"""What how-to pages and tutorials tell to type exists: verbs, options, launch arguments, names."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from dql_ros.cli.main import VERBS, app
from dql_ros.contract import FaultRules

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page for kind in ("how-to", "tutorials") for page in (ROOT / "docs" / kind).glob("*.md")
)
REFERENCE = (ROOT / "docs" / "reference" / "nodes.md").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NODES = {"policy": "policy_node", "sim_bridge": "sim_bridge_node", "recorder": "recorder_node"}


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command line in a page's code, without comments."""
    text = page.read_text()
    blocks = FENCE.findall(text)
    lines = "".join(code for language, code in blocks if not language).replace("\\\n", " ")
    inline = re.findall(r"`([^`]+)`", FENCE.sub("", text))
    for line in (*lines.splitlines(), *inline):
        # Anything else is what a command says.
        if re.match(r"(dql|ros2|plotjuggler) ", line):
            yield shlex.split(line, comments=True)


def options_of(verb: str) -> set[str]:
    """All options of a verb, and of the verbs below it."""
    group: Any = typer.main.get_command(app)
    _, command, _ = group.resolve_command(click.Context(group), [verb])
    found = [command, *getattr(command, "commands", {}).values()]
    return {name for each in found for parameter in each.params for name in parameter.opts}


def launch_arguments(file: str) -> set[str]:
    for statement in ast.parse((ROOT / "launch" / file).read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ARGUMENTS":
            return set(ast.literal_eval(statement.value))
    raise AssertionError(f"{file} has no ARGUMENTS")


def require_dql(words: list[str]) -> None:
    assert words[1] in VERBS, words
    known = options_of(words[1])
    for option in (word for word in words[2:] if word.startswith("--")):
        # A switch is declared with both of its names.
        assert option in known or any(option in name.split("/") for name in known), words


def require_launch(words: list[str]) -> None:
    arguments = {word.split(":=")[0] for word in words[4:]}
    assert arguments - {"--show-args"} <= launch_arguments(words[3]), words


def require_private_name(name: str, kind: str) -> None:
    """Check a topic or service of a node against the reference page."""
    _, node, private = name.split("/", 2)
    assert re.search(rf"^\| `~/{private}` \| `{kind}`", REFERENCE, re.MULTILINE), name
    assert f"## {NODES[node]}" in REFERENCE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_typed_exists(page: Path) -> None:
    seen = 0
    for words in commands(page):
        seen += 1
        if words[0] == "dql":
            require_dql(words)
        elif words[:3] == ["ros2", "launch", "dql_ros"]:
            require_launch(words)
        elif words[:3] == ["ros2", "service", "call"] or words[:3] == ["ros2", "topic", "pub"]:
            place = next(i for i, word in enumerate(words) if word.startswith("/"))
            require_private_name(words[place], words[place + 1])
    assert seen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(r"\bconfig/[\w/.]+\w", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(((?:\.\./)*[\w./-]+)(?:#[\w-]+)?\)", text):
        assert (page.parent / target).exists(), target


def test_the_contract_in_the_page_is_one() -> None:
    page = ROOT / "docs" / "how-to" / "run-it-on-my-robot.md"
    (text,) = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    rules = FaultRules.model_validate(yaml.safe_load(text)["on_fault"])
    assert rules.deactivate_after_s == 5.0


def test_every_test_that_the_safety_case_names_exists() -> None:
    text = (ROOT / "docs" / "explanation" / "safety.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) > 20
    for row in rows[1:]:
        proofs = row.rsplit("|", 2)[1]
        names = re.findall(r"`([\w/.]+)`", proofs)
        assert names, f"no test: {row}"
        source = ""
        for name in names:
            if name.endswith(".py"):
                file, *_ = (ROOT / "tests" / "ros").rglob(name.removeprefix("tests/ros/"))
                source = file.read_text()
            elif name.startswith("test_"):
                assert f"def {name}(" in source, f"{name} is not where the row says: {row}"
