from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node

from dql_core.errors import ConfigError
from dql_ros.nodes.parameters import Parameter, declare, describe, shared_parameters


def test_only_the_section_for_all_nodes_counts(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "/**: {ros__parameters: {depth: 3, a: {b: 1}}}\npolicy: {ros__parameters: {seed: 1}}"
    )
    (tmp_path / "b.yaml").write_text("/**/policy: {ros__parameters: {mode: lockstep}}")
    arguments = ["node", "--ros-args", "-p", "x:=1"]
    for name in ("a", "b"):
        arguments += ["--params-file", str(tmp_path / f"{name}.yaml")]
    assert shared_parameters(arguments) == {"depth", "a.b"}
    assert shared_parameters(["node"]) == set()


def test_lists_as_launch_writes_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "launch_params"
    path.write_text(
        "/**:\n  ros__parameters:\n    topics: !!python/tuple\n    - /diagnostics\n    depth: 3\n"
    )
    assert shared_parameters(["--params-file", str(path)]) == {"topics", "depth"}


@pytest.mark.parametrize(
    ("given", "remedy"),
    [("/diagnostics", "[/diagnostics]"), ("/a,/b", "[/a,/b]"), ("3", "[A, B]"), ("''", "[A, B]")],
)
def test_a_list_that_is_given_as_a_text_is_told_how_to_be_written(given: str, remedy: str) -> None:
    context = Context()
    rclpy.init(context=context)
    arguments = ["--ros-args", "-p", f"topics:={given}"]
    node = Node("recorder", context=context, cli_args=arguments, enable_rosout=False)
    try:
        with pytest.raises(ConfigError) as refusal:
            declare(node, [Parameter("topics", ("",), "further topics")])
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert str(refusal.value).endswith(f'a list of texts: give it with -p "topics:={remedy}"')


def test_help_shows_lists_as_they_are_written() -> None:
    lists = [Parameter("topics", ("",), "more"), Parameter("names", ("a", "b"), "")]
    lines = list(describe(lists))
    assert lines[::2] == ["  -p topics:=[]", "  -p names:=[a, b]"]


def test_files_that_say_nothing_are_read(tmp_path: Path) -> None:
    for text in ("", "- 1", "/**:", "/**: {ros__parameters: }"):
        (tmp_path / "p.yaml").write_text(text)
        assert shared_parameters(["--params-file", str(tmp_path / "p.yaml")]) == set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "/**:\n  ros__parameters:\n    seed: 1\n    seed: 2\n",
            "key 'seed' appears twice, in line 3",
        ),
        ("/**: &a {ros__parameters: *a}", "contains itself"),
        ("/**: " + "[" * 1000, "is nested more than 64 deep"),
    ],
)
def test_a_file_of_which_ros_would_take_half_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        shared_parameters(["--params-file", str(path)])
