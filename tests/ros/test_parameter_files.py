from pathlib import Path

from dql_ros.parameter_files import shared_parameters


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
