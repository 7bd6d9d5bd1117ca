"""What pages tell to type can be typed: verbs, options, arguments, nodes, services, files."""

import ast
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import typer

from dql_core.config import TrainConfig
from dql_core.errors import DqlError
from dql_ros.cli.main import VERBS, app
from dql_ros.sim.faults import parse_faults
from tests.docs.shell_blocks import ROOT, blocks, commands, inline, shell

PAGES = [
    page
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    if shell(page) or page.parent.name in ("how-to", "tutorials")
]
REFERENCE = (ROOT / "docs" / "reference" / "nodes.md").read_text()
NODES = {"policy": "policy_node", "sim_bridge": "sim_bridge_node", "recorder": "recorder_node"}
LANGUAGES = {"sh", "bash", "text", "yaml", "python", "mermaid", "c"}
# What a page takes for granted: what the reader has, or what another page has made.
GIVEN = {
    "README": ["my_bag", "bags", "data/other", "runs/demo", "scara.yaml", "bundle", "space.yaml"],
    "training": ["runs/arm", "data/old", "data/takeovers"],
    "choose-a-checkpoint": ["arm.yaml", "data", "runs/bc", "runs/arm/bundle", "bags/shadow"],
    "convert-my-robots-bags": ["flights", "my_bag", "src/px4_msgs", "/opt/ros/humble/share"],
    "curate-a-dataset": ["runs/demo"],
    "exchange-datasets": [
        *("my_set", "low_dim.hdf5", "pusht.zarr.zip", "expert.npz", "hopper_medium-v2.hdf5"),
        *("dataset.h5", "data/arm"),
    ],
    "find-settings": ["data/arm"],
    "label-episodes": ["arm.yaml", "bags", "data/arm"],
    "look-at-a-recording": ["arm.yaml", "bags", "runs/demo"],
    "run-a-policy-in-c": ["runs/arm", "runs/arm/bundle"],
    "run-it-on-my-robot": ["arm.yaml", "bags/tuesday"],
    "scale": ["runs/demo", "robot.yaml", "bags"],
    "secure-with-sros2": ["arm.yaml", "runs/arm/bundle"],
    "take-over-from-the-policy": ["arm.yaml", "runs/arm/bundle"],
    "test-a-policy-in-simulation": ["runs/arm/bundle", "runs/hopper/bundle"],
}
# What is no command of ours is taken as it is.
OTHERS = {
    *("cd", "chmod", "cp", "docker", "echo", "export", "for", "jobs", "kill", "less", "mkdir"),
    *("plotjuggler", "sbatch", "source", "sudo", "wait"),
}
OUTPUTS = {"out", "record", "video", "json_file", "c", "picture"}
# Of type text, since a name of Minari's will do as well as a path.
INPUTS = {"dataset", "datasets"}
NODE_PARAMETERS = ("contract", "policy", "env", "params_file")


class Desk:
    """What files there are while a page's commands are typed one after the other."""

    def __init__(self, given: Sequence[str] = ()) -> None:
        self.made = set(given)
        self.folder = ""

    def make(self, path: str) -> None:
        """Take note of what a command writes."""
        self.made.add(os.path.normpath(PurePosixPath(self.folder, path)))

    def require(self, path: str) -> None:
        """See that what a command reads is there."""
        place = re.split(r"[*$]", path)[0] or "."
        known = {PurePosixPath(each) for each in self.made}
        wanted = PurePosixPath(os.path.normpath(PurePosixPath(self.folder, place)))
        is_made = any(wanted == it or it in wanted.parents or wanted in it.parents for it in known)
        places = (ROOT, ROOT / "config" / "contracts")
        assert is_made or any((each / place).exists() for each in places), f"nobody made {path}"

    def enter(self, folder: str) -> None:
        """Change into a folder."""
        self.require(folder)
        self.folder = os.path.normpath(PurePosixPath(self.folder, folder))


def dql_command(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The verb of a command line, or the one below it, and the words after that."""
    group: Any = typer.main.get_command(app)
    assert words[1] in VERBS, f"{words[1]} is no verb"
    context = group.make_context("dql", ["--help"], resilient_parsing=True)
    _, command, rest = group.resolve_command(context, list(words[1:]))
    while below := getattr(command, "commands", {}):
        assert rest, f"{words[1]} needs one of {sorted(below)}"
        assert rest[0] in below, f"{words[1]} has no {rest[0]}"
        command, rest = below[rest[0]], rest[1:]
    return command, rest


def require_dql(words: Sequence[str], desk: Desk) -> None:
    """Parse a `dql` command as it would be, without running it."""
    command, rest = dql_command(words)
    for name, value in parsed(command, rest).items():
        values = value if isinstance(value, (list, tuple)) else [value]
        for each in values:
            require_value(name, each, desk)


def parsed(command: Any, words: list[str]) -> dict[str, Any]:
    """What a verb would be called with; its output files come last."""
    try:
        given: dict[str, Any] = command.make_context(command.name, words).params
    except Exception as error:
        # A mistake in the words, whichever library parses them.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        raise AssertionError(message()) from error
    return dict(sorted(given.items(), key=lambda each: each[0] in OUTPUTS))


def require_value(name: str, value: Any, desk: Desk) -> None:
    """Check one value of an option or argument of `dql`."""
    if name in OUTPUTS and value is not None:
        desk.make(str(value))
    elif isinstance(value, Path) or (name in INPUTS and value):
        desk.require(str(value))
    elif name == "env" and str(value).endswith(".xml"):
        desk.require(value)
    elif name == "overrides":
        require_training_key(value)
    elif name == "faults":
        parse_faults(value)


def require_training_key(override: str) -> None:
    *path, _ = override.partition("=")[0].split("."), ""
    model: Any = TrainConfig
    for part in path[0]:
        fields = getattr(model, "model_fields", None)
        if fields is None:
            return  # a name of the data's, as of an info
        assert part in fields, f"a training has no {override}"
        model = fields[part].annotation


def launch_arguments(file: str) -> set[str]:
    for statement in ast.parse((ROOT / "launch" / file).read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ARGUMENTS":
            return set(ast.literal_eval(statement.value))
    raise AssertionError(f"{file} has no ARGUMENTS")


def node_parameters(node: str) -> dict[str, str]:
    """The parameters of a node with their values, as the reference page has them."""
    table = REFERENCE.split(f"### Parameters of {node}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|", table, re.MULTILINE)
    return {name: values.strip() for name, values in rows} | {"use_sim_time": "`true`, `false`"}


def require_files(assignments: dict[str, str], desk: Desk) -> None:
    """See that what a node is to read is there, and note what it writes."""
    for name, value in assignments.items():
        if name in ("out", "video"):
            desk.make(value)
        elif name in NODE_PARAMETERS and (name != "env" or value.endswith(".xml")):
            desk.require(value)


def require_node(node: str, words: Sequence[str], desk: Desk) -> None:
    """Check the parameters that a node is given."""
    assert node in {*NODES.values(), "demonstrator_node"}, f"no node {node}"
    assert not words or words[0] == "--ros-args", words
    known = node_parameters(node)
    given = {}
    for flag, word in zip(words[1::2], words[2::2], strict=True):
        if flag == "-p":
            name, found, value = word.partition(":=")
            assert found, f"{word} is no parameter"
            assert name in known, f"{node} has no parameter {name}"
            choices = re.findall(r"`([^`]*)`", known[name])
            assert not choices or value in choices, f"{name} is one of {choices}"
            given[name] = value
        else:
            assert flag in ("--enclave", "-r"), flag
    require_files(given, desk)


def require_private_name(name: str, kind: str) -> None:
    """Check a topic or service of a node against the reference page."""
    _, node, private = name.split("/", 2)
    assert node in NODES, f"no node of ours is called {node}"
    section = REFERENCE.split(f"\n## {NODES[node]}\n")[1].split("\n## ")[0]
    row = rf"^\| `~/{re.escape(private)}` \| `{re.escape(kind)}`"
    assert re.search(row, section, re.MULTILINE), f"{NODES[node]} has no {name} of {kind}"


def require_ros2(words: Sequence[str], desk: Desk) -> None:
    if words[1:3] == ["launch", "dql_ros"]:
        given = dict(word.split(":=", 1) for word in words[4:] if ":=" in word)
        assert {word for word in words[4:] if ":=" not in word} <= {"--show-args"}, words
        unknown = set(given) - launch_arguments(words[3])
        assert not unknown, f"{words[3]} has no argument {unknown}"
        require_files(given, desk)
    elif words[1:3] == ["run", "dql_ros"]:
        require_node(words[3], words[4:], desk)
    elif words[1:3] in (["service", "call"], ["topic", "pub"]):
        place = next(i for i, word in enumerate(words) if word.startswith("/"))
        require_private_name(words[place], words[place + 1])
    elif words[1:3] == ["topic", "echo"]:
        name, *kind = [word for word in words[3:] if not word.startswith("--")]
        if kind:
            require_private_name(name, kind[0])
    else:
        assert words[1] in ("action", "bag", "lifecycle", "run", "security", "topic"), words
        if words[1:3] == ["bag", "record"] and "-o" in words:
            desk.make(words[words.index("-o") + 1])


def require_make(words: Sequence[str], _: Desk) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (target,) = words[3:] if words[1] == "-C" else words[1:]
    assert target in targets, f"make has no {target}"


def require_python(words: Sequence[str], desk: Desk) -> None:
    if words[1] != "-m":
        desk.require(words[1])
    elif words[2].startswith("benchmarks"):
        assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file(), words[2]


def require_other(words: Sequence[str], desk: Desk) -> None:
    """Take what changes files as it is meant."""
    if words[0] == "mkdir":
        desk.make(words[-1])
    elif words[0] == "cd":
        desk.enter(words[-1])
    elif words[0] == "cp":
        desk.require(words[-2])
        desk.make(words[-1])
    elif "--wrap" in words:
        require_all(words[words.index("--wrap") + 1], desk)


def require_torchrun(words: Sequence[str], desk: Desk) -> None:
    """Check what each of several processes is to run."""
    (place,) = (index for index, word in enumerate(words) if word.endswith("/dql"))
    require_dql(words[place:], desk)


CHECKS: dict[str, Callable[[Sequence[str], Desk], None]] = {
    "dql": require_dql,
    "ros2": require_ros2,
    "make": require_make,
    "python": require_python,
    "torchrun": require_torchrun,
    **dict.fromkeys(OTHERS, require_other),
}


def require_all(text: str, desk: Desk) -> int:
    """Check the commands of a block one after the other; return how many there are."""
    found = list(commands(text))
    for words in found:
        try:
            require(words, desk)
        except (AssertionError, DqlError) as wrong:
            raise AssertionError(f"{' '.join(words)}\n{wrong}") from wrong
    return len(found)


def require(words: Sequence[str], desk: Desk) -> None:
    """Check a command that a page tells to type."""
    if words[0] in ("do", "done") or re.match(r"\w+=", words[0]):
        words = words[1:]
    if not words:
        return
    written = [word[1:] for word in words if word.startswith(">")]
    words = [word for word in words if not word.startswith((">", "<"))]
    if words[0] in {*NODES.values(), "demonstrator_node"}:
        require_node(words[0], words[1:], desk)
    elif words[0] != "cat":
        assert words[0] in CHECKS, f"{words[0]} is not known: add it to OTHERS if it is right"
        CHECKS[words[0]](words, desk)
    for path in written:
        desk.make(path)


def named(pages: Sequence[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.stem)


@named(PAGES)
def test_what_is_typed_can_be_typed(page: Path) -> None:
    desk = Desk(GIVEN.get(page.stem, ()))
    for text in shell(page):
        assert require_all(text, desk) > 0


@named(PAGES)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert {language for language, _ in blocks(page)} <= LANGUAGES


def named_commands(page: Path) -> Iterator[list[str]]:
    for code in inline(page):
        if re.match(r"(dql|ros2) [\w-]", code) and "'" not in code:
            yield from commands(code)


@named(PAGES)
def test_what_is_named_in_a_sentence_exists(page: Path) -> None:
    """Verbs, options, launch arguments, topics and services, of commands that are not whole."""
    for words in named_commands(page):
        if words[0] == "ros2" and len(words) > 3:
            require_ros2(words, Desk(["."]))
        elif words[0] == "dql" and words[1:] not in (["--help"], ["contract"], ["dataset"]):
            command, rest = dql_command(words)
            known = {"--help", *(name for each in command.params for name in each.opts)}
            known |= {name for each in command.params for name in each.secondary_opts}
            unknown = {word for word in rest if word.startswith("--")} - known
            assert not unknown, f"{' '.join(words)}: no {unknown}"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("dql convrt a.yaml bags --out data", "convrt is no verb"),
        ("dql convert a.yaml bags --oot data", "No such option: --oot"),
        ("dql convert a.yaml --out data", "Missing argument"),
        ("dql doctor now", "Got unexpected extra argument"),
        ("dql dataset kept data/a --out b", "dataset has no kept"),
        ("dql closed-loop bundle --contract a.yaml --episodes many", "Invalid value"),
        ("dql closed-loop bundle --contract a.yaml --faults latency=3", "latency"),
        ("dql convert a.yaml bags --out data && dql train --dataset dta --out run", "made dta"),
        ("dql train --dataset bags --out run --set run.step=3", "no run.step=3"),
        ("dql import x.npz --format nzp --out data", "Invalid value"),
        ("ros2 launch dql_ros policy.launch.py contract:=a.yaml polcy:=bundle", "polcy"),
        ("ros2 launch dql_ros policy.launch.py contract:=b.yaml", "nobody made b.yaml"),
        ("ros2 service call /policy/rset_stop std_srvs/srv/Trigger", "no /policy/rset_stop"),
        ("ros2 service call /policy/reset_stop std_srvs/srv/SetBool", "no /policy/reset_stop"),
        ("ros2 topic pub --once /polcy/stop std_msgs/msg/Bool x", "called polcy"),
        ("recorder_node --ros-args -p contract:=a.yaml -p outt:=x", "no parameter outt"),
        ("sim_bridge_node --ros-args -p mode:=lock", "mode is one of"),
        ("make tests", "make has no tests"),
        ("python drive.py", "nobody made drive.py"),
        ("cat > drive.py <<'END'\nx = '1\nEND\npython drive.py\npython driv.py", "made driv.py"),
        ("cat > x.sh <<'END'\n#!/bin/bash\ndql convrt a b\nEND", "convrt is no verb"),
        ('sbatch --wrap "dql dataset murge data/a --out b"', "dataset has no murge"),
        ("cd nowhere", "nobody made nowhere"),
        ("dqll doctor", "dqll is not known"),
    ],
)
def test_what_is_wrong_is_found(text: str, wrong: str) -> None:
    desk = Desk(["a.yaml", "bags", "bundle", "x.npz", "data/a"])
    with pytest.raises(AssertionError, match=re.escape(wrong)):
        require_all(text, desk)
