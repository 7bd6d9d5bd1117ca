"""Counts the files that each of the four ways of data enters, and measures the tree.

``python scripts/trace_files.py`` records a few episodes, then converts, trains and drives under a
trace; it takes three minutes. ``--size`` only measures the tree, ``--files`` names the files, and
a folder measures another checkout. A file is entered when a function of it is called: imports do
not count, nor do the command line's own files. The ways are those of
docs/explanation/architecture.md, from the construction of what a datum goes through.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
PACKAGES = ("dql_core", "dql_ros")
# Variables of the traced processes: where to write what they entered, and which tree counts.
OUT, TREE = "DQL_TRACE_OUT", "DQL_TRACE_TREE"
CONTRACT = "config/contracts/scara.yaml"


@dataclass(frozen=True)
class Way:
    """One way of data through the packages.

    Attributes:
        name: What goes in and what comes out.
        begin: The function with whose first call the way begins.
        end: The function with whose return it ends; empty for the end of the process.
    """

    name: str
    begin: str
    end: str = ""


WAYS = (
    Way("bag message -> dataset row", "convert"),
    Way("dataset row -> gradient", "train", "BaseAgent.update"),
    Way("state -> command", "ControlLoop.__init__", "ControlLoop.stop"),
    Way("simulation step", "SimBridgeNode.__init__", "SimBridgeNode._end"),
)


class Trace:
    """What this process enters, from the first call of each way's begin to its end."""

    def __init__(self, tree: str) -> None:
        self._prefixes = tuple(f"{tree}/{package}/" for package in PACKAGES)
        self._skip = len(tree) + 1
        self._begins = {way.begin: way for way in WAYS}
        self._ends = {way.end: way for way in WAYS if way.end}
        self._under_way: set[Way] = set()
        self._importing = threading.local()
        self.entered: dict[str, dict[str, str]] = {}

    def start(self) -> None:
        """Follow this thread and all that it starts."""
        threading.setprofile(self._on_event)
        sys.setprofile(self._on_event)

    def _on_event(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if code.co_name == "<module>":
            self._note_import(frame, event)
        elif event in {"call", "return"} and code.co_filename.startswith(self._prefixes):
            path = code.co_filename[self._skip :]
            if not getattr(self._importing, "depth", 0) and "/cli/" not in path:
                self._note(path, code.co_qualname, event)

    def _note_import(self, frame: FrameType, event: str) -> None:
        """What a module runs while it is imported is not on the way."""
        if frame.f_globals.get("__name__") != "__main__":
            step = {"call": 1, "return": -1}.get(event, 0)
            # The imports that run while the trace is started are seen to end only.
            self._importing.depth = max(0, getattr(self._importing, "depth", 0) + step)

    def _note(self, path: str, function: str, event: str) -> None:
        if event == "return":
            if function in self._ends:
                self._under_way.discard(self._ends[function])
            return
        way = self._begins.get(function)
        if way is not None and way.name not in self.entered:
            self.entered[way.name] = {}
            self._under_way.add(way)
        for way in self._under_way:
            self.entered[way.name].setdefault(path, function)


def trace_this_process() -> None:
    """Trace this process, if its parent asks for it; leaves what it entered in a file."""
    out, tree = os.environ.get(OUT), os.environ.get(TREE)
    if not out or not tree:
        return
    trace = Trace(tree)

    def write() -> None:
        sys.setprofile(None)
        if trace.entered:
            Path(out, f"{os.getpid()}.json").write_text(json.dumps(trace.entered))

    atexit.register(write)
    trace.start()


def files_on_the_ways(tree: Path) -> dict[str, dict[str, str]]:
    """Run all four ways on the checkout ``tree``.

    Returns:
        For each way its files in the order in which they are entered, each with the first of its
        functions that is called.
    """
    with tempfile.TemporaryDirectory() as folder:
        work, traced = Path(folder), Path(folder, "traced")
        traced.mkdir()
        hook = work / "hook"
        hook.mkdir()
        # Python imports a module of this name in every process that it starts.
        (hook / "sitecustomize.py").write_text(
            "from trace_files import trace_this_process\n\ntrace_this_process()\n"
        )
        demo, data, run = str(work / "demo"), str(work / "data"), str(work / "run")
        plain = {"PYTHONPATH": str(tree)}
        tracing = {
            "PYTHONPATH": os.pathsep.join([str(hook), str(HERE), str(tree)]),
            OUT: str(traced),
            TREE: str(tree),
        }
        amounts = ["--demonstrations", "3", "--episodes", "2", "--steps", "2"]
        _dql(tree, plain, "demo", "--out", demo, *amounts)
        _dql(tree, tracing, "convert", CONTRACT, f"{demo}/bags/session_0", "--out", data)
        settings = ["--set", "run.steps=2", "--set", "run.execution=eager"]
        training = ["config/train/scara.yaml", "--dataset", data, "--out", run, *settings]
        _dql(tree, tracing, "train", *training)
        driving = ["--contract", CONTRACT, "--episodes", "1", "--out", str(work / "closed_loop")]
        _dql(tree, tracing, "closed-loop", f"{demo}/bundles/diffusion_ql", *driving)
        found: dict[str, dict[str, str]] = {}
        for path in sorted(traced.iterdir()):
            found |= json.loads(path.read_text())
    for way in WAYS:
        if way.name not in found:
            sys.exit(f"{way.name}: '{way.begin}' was not called; correct WAYS in {__file__}")
    return {way.name: found[way.name] for way in WAYS}


def _dql(tree: Path, environment: dict[str, str], *arguments: str) -> None:
    """Run a verb of the command line of the checkout ``tree``, which need not be installed."""
    done = subprocess.run(
        [sys.executable, "-c", "from dql_ros.cli.main import main; main()", *arguments],
        cwd=tree,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"dql {' '.join(arguments)}: {done.stderr or done.stdout}")


def modules(tree: Path) -> list[Path]:
    """Every module of the packages, relative to ``tree``, without ``__init__.py``."""
    found = (path for package in PACKAGES for path in (tree / package).rglob("*.py"))
    return sorted(path.relative_to(tree) for path in found if path.name != "__init__.py")


def sizes(tree: Path) -> Iterator[tuple[str, int | str]]:
    """Yield the figures of the tree, each with its name."""
    files = modules(tree)
    lines = {path: (tree / path).read_text().count("\n") for path in files}
    yield "modules", len(files)
    yield "folders with modules", len({path.parent for path in files})
    for package in PACKAGES:
        rooms = {path.parts[1] for path in files if path.parts[0] == package and path.parts[2:]}
        yield f"rooms of {package}", len(rooms)
        yield (
            f"loose files at the top of {package}",
            sum(path.parent == Path(package) for path in files),
        )
    yield "deepest folder", max(len(path.parts) - 1 for path in files)
    folder, count = Counter(path.parent for path in files).most_common(1)[0]
    yield "most files in a folder", f"{count} ({folder})"
    largest = max(lines, key=lambda path: lines[path])
    yield "lines of the longest file", f"{lines[largest]} ({largest})"
    yield (
        "lines",
        sum(lines.values())
        + sum(
            path.read_text().count("\n")
            for package in PACKAGES
            for path in (tree / package).rglob("__init__.py")
        ),
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", nargs="?", type=Path, default=HERE.parent)
    parser.add_argument("--files", action="store_true", help="name the files of each way")
    parser.add_argument("--size", action="store_true", help="only measure the tree")
    asked = parser.parse_args()
    tree = asked.tree.resolve()
    for name, value in sizes(tree):
        print(f"| {name} | {value} |")
    for name, files in ({} if asked.size else files_on_the_ways(tree)).items():
        print(f"| files entered, {name} | {len(files)} |")
        for path, function in files.items() if asked.files else ():
            print(f"    {path}: {function}")


if __name__ == "__main__":
    _main()
