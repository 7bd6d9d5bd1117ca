"""The folder of a policy in C: its check, its example, and what other people's names do to it."""

import itertools
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dql_core.errors import BundleError, ConfigError
from dql_core.export.c import folder as folder_module
from dql_core.export.c import source as source_module
from dql_core.export.c.folder import CHECK, write_c
from dql_core.export.c.names import distinct, identifier, string
from dql_core.runtime.manifest import GRAPH_FILE
from dql_core.runtime.policy import Choice
from dql_core.spec import FieldSpec
from tests.core.export.compiled_policy import SANITIZERS, compile_c, require_gcc
from tests.core.export.random_policies import SPEC, Made, make

HOSTILE = (
    '*/ int main(void) { return 7; } /* "\\',
    '"; system("touch hostile"); //',
    "??/\n#error hostile\r\n`|<script>$(touch hostile)`",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


def write(made: Made, folder: Path) -> Path:
    """Write the files as `dql export` does, to compile them."""
    require_gcc()
    for name, text in made.c.files.items():
        (folder / name).write_text(text)
    return folder


def test_equal_bundles_give_equal_bytes(made: Made) -> None:
    assert write_c(made.manifest, made.contents, made.choice) == made.c


def test_the_command_that_is_printed_compares_with_onnx_runtime(
    made: Made, tmp_path: Path
) -> None:
    folder = write(made, tmp_path)
    finished = subprocess.run(
        CHECK, shell=True, cwd=folder, capture_output=True, text=True, check=True
    )
    assert finished.stdout.startswith("16 decisions differ from ONNX Runtime's by at most ")
    assert CHECK in (folder / "README.md").read_text()
    assert CHECK in (folder / "check.c").read_text()


def test_the_check_finds_a_weight_that_changed(made: Made, tmp_path: Path) -> None:
    folder = write(made, tmp_path)
    head, weights, rest = made.c.files["policy.c"].partition("static const float weights_1[")
    first = rest.split("{")[1].split(",")[0]
    number = float(first.strip().strip("f()"))
    changed = rest.replace(first, f"\n    {number + 0.05:.9g}f", 1)
    (folder / "policy.c").write_text(head + weights + changed)
    finished = subprocess.run(CHECK, shell=True, cwd=folder, capture_output=True, check=False)
    assert finished.returncode == 1


def test_the_check_finds_an_error_within_a_range_wider_than_float32(tmp_path: Path) -> None:
    bounds = FieldSpec("torque", "N m", -2e38, 2e38)
    made = make(tmp_path, spec=replace(SPEC, action=(bounds, SPEC.action[1])))
    folder = write(made, tmp_path)
    finished = subprocess.run(CHECK, shell=True, cwd=folder, check=False)
    assert finished.returncode == 0
    program = (folder / "policy.c").read_text()
    end = "    memcpy(decision->action, action, sizeof action);"
    (folder / "policy.c").write_text(program.replace(end, f"    action[0] = 0.0f;\n{end}"))
    finished = subprocess.run(CHECK, shell=True, cwd=folder, check=False)
    assert finished.returncode == 1


def test_a_graph_that_cannot_be_compared_is_refused(made: Made) -> None:
    model = onnx.load_from_string(made.contents[GRAPH_FILE])
    for each in model.graph.initializer:
        if each.data_type == onnx.TensorProto.FLOAT:
            vast = np.full_like(numpy_helper.to_array(each), 1e38)
            each.CopyFrom(numpy_helper.from_array(vast, each.name))
    contents = made.contents | {GRAPH_FILE: model.SerializeToString()}
    with pytest.raises(BundleError, match=r"of 64 decisions on draws .* none is finite"):
        write_c(made.manifest, contents, made.choice)


def test_a_graph_that_onnx_runtime_cannot_run_is_refused(made: Made) -> None:
    model = onnx.load_from_string(made.contents[GRAPH_FILE])
    far = numpy_helper.from_array(np.array(99, np.int64), "far")
    model.graph.initializer.append(far)
    unused = helper.make_node("Gather", ["candidates", "far"], ["unused"], axis=0)
    model.graph.node.append(unused)
    contents = made.contents | {GRAPH_FILE: model.SerializeToString()}
    with pytest.raises(BundleError, match=r"ONNX Runtime cannot run policy\.onnx: .*idx=99"):
        write_c(made.manifest, contents, made.choice)


def test_the_example_runs_with_sanitizers(made: Made, tmp_path: Path) -> None:
    folder = write(made, tmp_path)
    flags = "-std=c99", "-pedantic", "-O1", *SANITIZERS
    program = compile_c(folder, ["example.c", "policy.c", "noise.c"], flags, "example")
    finished = subprocess.run([program], capture_output=True, text=True, check=True)
    rows = [[float(number) for number in line.split()] for line in finished.stdout.splitlines()]
    assert len(rows) == 10
    # The torque's max_rate is 4 N m/s, and it begins at 0.
    torques = [0.0, *(row[0] for row in rows)]
    changes = [abs(after - before) for before, after in itertools.pairwise(torques)]
    assert max(changes) == pytest.approx(4.0 / 20.0, abs=1e-3)


def test_optimisations_that_break_the_checks_are_refused(made: Made, tmp_path: Path) -> None:
    folder = write(made, tmp_path)
    command = ["gcc", "-std=c99", "-Ofast", "-c", "policy.c"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode != 0
    assert "compile without -ffast-math" in finished.stderr


def test_names_of_other_people_stay_names(tmp_path: Path) -> None:
    spec = replace(
        SPEC,
        robot=HOSTILE[0],
        observation=tuple(
            FieldSpec(name, name, *limits)
            for name, limits in zip(
                HOSTILE, ((-1.0, 40.0), (-1e38, 1e38), (-float("inf"), 50.0)), strict=True
            )
        ),
        action=(FieldSpec("größe", "°", -2.0, 1.0), FieldSpec("größe", "", 0.0, 0.1)),
    )
    made = make(tmp_path, spec=spec)
    folder = write(made, tmp_path)
    prefix = made.c.prefix
    lines = "".join(
        f"    fputs({prefix}_{kind}_{what}s[{index}], stdout); putchar(0);\n"
        for kind, fields in (("observation", spec.observation), ("action", spec.action))
        for what in ("name", "unit")
        for index in range(len(fields))
    )
    text = (
        f'#include "policy.h"\n#include <stdio.h>\nint main(void) {{\n{lines}    return 0;\n}}\n'
    )
    (folder / "names.c").write_text(text)
    for flags in (
        ("-std=c99", "-pedantic", "-trigraphs"),
        ("-x", "c++", "-std=c++98", "-pedantic"),
    ):
        program = compile_c(folder, ["names.c", "policy.c"], flags, "names")
        printed = subprocess.run([program], capture_output=True, check=True).stdout.decode()
        expected = [
            *(each.name for each in spec.observation),
            *(each.unit for each in spec.observation),
        ]
        expected += [*(each.name for each in spec.action), *(each.unit for each in spec.action)]
        assert printed.split("\0")[:-1] == expected
    assert subprocess.run(CHECK, shell=True, cwd=folder, check=False).returncode == 0
    assert not (folder / "hostile").exists()
    for mark in ("<script>", "$(", "``", "system"):
        assert mark not in (folder / "README.md").read_text().replace("system touch", "")


def test_identifiers_are_of_plain_letters_and_distinct() -> None:
    names = ["elbow", "Elbow", "elbow 1", "", "7", "größe", "größe", "x" * 90, "x" * 91, "int"]
    found = list(distinct(names, "field"))
    assert found[:5] == ["elbow", "elbow_1", "elbow_1_2", "field", "field_7"]
    assert len(set(found)) == len(names)
    assert identifier("*/ evil()", "robot") == "evil"


@pytest.mark.parametrize("text", ['a\\b"c', "??=", "tab\tnul\0", "µ²", "\ud800"])
def test_strings_are_of_printable_ascii_only(text: str) -> None:
    literal = string(text)
    assert literal.isascii()
    assert literal.isprintable()
    assert "??" not in literal


def test_a_name_too_long_for_c_is_refused(tmp_path: Path) -> None:
    spec = replace(SPEC, observation=(FieldSpec("x" * 2000), *SPEC.observation[1:]))
    with pytest.raises(BundleError, match=r"a name in the spec has 2,000 bytes.*shorter name"):
        make(tmp_path, spec=spec)


@pytest.mark.parametrize("prefix", ["", "Arm", "1arm", "_arm", "arm-1", "arm\n", "a" * 25, "ärm"])
def test_a_prefix_that_is_none_is_refused(made: Made, prefix: str) -> None:
    with pytest.raises(ConfigError, match="is none for C: it must be of lower-case letters"):
        write_c(made.manifest, made.contents, made.choice, prefix)


def test_a_prefix_makes_two_policies_fit_into_one_program(made: Made, tmp_path: Path) -> None:
    calls = ""
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        files = write_c(made.manifest, made.contents, made.choice, side).files
        for name in ("policy.h", "policy.c"):
            (tmp_path / side / name).write_text(files[name])
        calls += f"    sum += {side}_observation_mean[0];\n"
    text = '#include "left/policy.h"\n#include "right/policy.h"\n'
    text += f"int main(void) {{\n    float sum = 0;\n{calls}    return sum > 9.0f;\n}}\n"
    (tmp_path / "both.c").write_text(text)
    sources = ["both.c", "left/policy.c", "right/policy.c"]
    assert compile_c(tmp_path, sources, ["-std=c99", "-pedantic"], "both").is_file()


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("MAX_WEIGHTS", "more than 100 weights, and C is written of no more.*policy.width"),
        ("MAX_CALLS", r"steps of computation, of which C is written of 100 at most.*diffusion"),
    ],
)
def test_a_policy_too_large_is_refused(
    tmp_path: Path, limit: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, limit, 100)
    with pytest.raises(BundleError, match=words):
        make(tmp_path, diffusion={"num_diffusion_steps": 20})


def test_mode_among_too_many_candidates_is_refused(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "MAX_MODE_CANDIDATES", 20)
    with pytest.raises(ConfigError, match="num_candidates is 21, and in C selection 'mode' looks"):
        write_c(made.manifest, made.contents, Choice(21, "mode"))


def test_a_policy_that_uses_no_noise_needs_none(tmp_path: Path) -> None:
    made = make(tmp_path, agent="td3_bc")
    folder = write(made, tmp_path)
    assert "The noise is not used and may be NULL." in made.c.files["policy.h"]
    text = (
        '#include "policy.h"\n#include <stddef.h>\nint main(void) {\n'
        "    static tiny_arm_scratch scratch;\n    static tiny_arm_decision decision;\n"
        "    const float *at = tiny_arm_observation_mean;\n"
        "    return (int)tiny_arm_decide(at, NULL, &scratch, &decision);\n}\n"
    )
    (folder / "no_noise.c").write_text(text)
    flags = "-std=c99", "-pedantic", "-O1", *SANITIZERS
    program = compile_c(folder, ["no_noise.c", "policy.c"], flags, "no_noise")
    assert subprocess.run([program], check=False).returncode == 0
