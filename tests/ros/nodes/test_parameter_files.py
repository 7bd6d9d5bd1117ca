from pathlib import Path

import pytest

from dql_core.errors import ConfigError
from dql_ros.nodes.parameters import shared_parameters


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
