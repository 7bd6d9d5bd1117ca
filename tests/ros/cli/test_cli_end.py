"""Verbs that are told to end, or killed, when their output is all but in its place."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli_process import CliProcess, dql
from tests.ros.cli.verb_inputs import CONTRACT, make_inputs

pytestmark = pytest.mark.slow

LIMIT_S = 60.0
# The renaming that puts an output in its place never ends. It sleeps in short pieces: a signal
# that arrives just before a sleep is handled only after it.
HOLD = """
import os, time

def hold(rename):
    def held(source, target, **options):
        if ".partial-" in os.fspath(source):
            open(os.environ["HELD"], "w").close()
            for _ in range(6000):
                time.sleep(0.01)
        return rename(source, target, **options)
    return held

os.rename, os.replace = hold(os.rename), hold(os.replace)
"""
VERBS = {
    "import": "import flat.npz --format npz --out out",
    "relabel": "relabel data --reward dql_core.rewards:action_cost --argument weights=0.1 "
    "--out out",
    "dataset": "dataset keep data --episode 0 --out out",
    "train": "train tiny.yaml --dataset data --out out",
    "export": "export run --out out",
    "layout": f"layout {CONTRACT} out.json",
}
# The way is the same for all, so one verb is enough for the others.
ENDINGS = [(verb, signal.SIGTERM) for verb in VERBS]
ENDINGS += [("layout", signal.SIGINT), ("layout", signal.SIGHUP)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    make_inputs(folder, 20)
    return folder


@pytest.fixture
def place(sources: Path, tmp_path: Path) -> Path:
    """Return a folder with what the verbs need, as links."""
    for name in ("data", "run", "flat.npz", "tiny.yaml"):
        (tmp_path / name).symlink_to(sources / name)
    return tmp_path


def made(place: Path) -> set[str]:
    return {path.name for path in place.iterdir() if not path.is_symlink()}


@contextmanager
def held(verb: str, place: Path) -> Iterator[CliProcess]:
    """Start a verb and wait until it is held; it does not outlive the block."""
    mark = place / "held"
    environment = os.environ | {"HELD": str(mark)}
    with CliProcess(
        *VERBS[verb].split(), cwd=place, environment=environment, prologue=HOLD
    ) as process:
        until = time.monotonic() + LIMIT_S
        while not mark.exists():
            assert process.returncode is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        mark.unlink()
        yield process


@pytest.mark.parametrize(("verb", "number"), ENDINGS)
def test_a_signal_to_end_leaves_nothing_and_is_told_in_one_line(
    place: Path, verb: str, number: signal.Signals
) -> None:
    with held(verb, place) as process:
        assert any(".partial-" in name for name in made_below(place))
        process.send_signal(number)
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + number
    assert errors.splitlines() == [
        f"dql: ended by {number.name}; nothing unfinished is left behind"
    ]
    assert made(place) == set()


def made_below(place: Path) -> list[str]:
    return [path.name for path in place.rglob("*")]


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_killed_verb_leaves_is_removed_by_the_next_which_succeeds(
    place: Path, verb: str
) -> None:
    with held(verb, place) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=LIMIT_S)
    assert any(".partial-" in name for name in made_below(place))
    again = dql(*VERBS[verb].split(), cwd=place)
    assert again.returncode == 0, again.stderr
    assert made(place) == {"out.json" if verb == "layout" else "out"}
    assert not [name for name in made_below(place) if ".partial-" in name]


def test_sighup_is_ignored_where_it_was_ignored_before(place: Path) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held("layout", place) as process:
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=LIMIT_S)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.returncode == 128 + signal.SIGTERM
