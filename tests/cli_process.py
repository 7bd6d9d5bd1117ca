"""The command line as a process of its own, without a second of imports for each call.

One process for the session has imported what the verbs need, and forks for each call (the fork
server of `multiprocessing`). From there on all is as in ``python -m dql_ros.cli.main``: arguments,
environment, folder, signals, output and exit code. What depends on imports is not tested so.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

PRELOADED = (
    "tests.cli_process",
    "dql_ros.cli.main",
    "dql_core.cli.dataset",
    "dql_core.cli.export",
    "dql_core.cli.import_dataset",
    "dql_core.cli.inspect",
    "dql_core.cli.relabel",
    "dql_core.cli.sweep",
    "dql_core.cli.train",
    "dql_core.cli.evaluate",
    "dql_ros.cli.closed_loop",
    "dql_ros.cli.contract",
    "dql_ros.cli.convert",
    "dql_ros.cli.demo",
    "dql_ros.cli.inspect",
    "dql_ros.cli.layout",
    "torch._dynamo",  # what the first optimizer of a process imports
)
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(list(PRELOADED))


class CliProcess:
    """A running `dql`; it does not outlive a ``with`` block.

    Attributes:
        returncode: As of `subprocess.Popen`.
    """

    def __init__(
        self,
        *arguments: object,
        cwd: Path | None = None,
        environment: Mapping[str, str] = os.environ,
        prologue: str = "",
    ) -> None:
        """Start it.

        Args:
            arguments: Of the command line.
            cwd: Its folder.
            environment: All of its environment.
            prologue: Python code that is run in it before the command line.
        """
        self._output = tempfile.TemporaryDirectory()
        self._files = [Path(self._output.name, name) for name in ("out", "err")]
        self._process = _SERVER.Process(
            target=_run,
            args=(
                [str(each) for each in arguments],
                str(cwd or Path.cwd()),
                dict(environment),
                [str(file) for file in self._files],
                prologue,
                signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
            ),
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative if a signal ended it; ``None`` while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float = 60.0) -> tuple[str, str]:
        """Return what it has printed, when it has ended.

        Raises:
            TimeoutError: If it does not end in so many seconds.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"dql has not ended in {timeout} s")
        out, err = (file.read_text() if file.exists() else "" for file in self._files)
        return out, err

    def __enter__(self) -> CliProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()
        self._output.cleanup()


def dql(
    *arguments: object, cwd: Path | None = None, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    with CliProcess(*arguments, cwd=cwd, environment=environment) as process:
        out, err = process.communicate(120.0)
        assert process.returncode is not None
        words = ["dql", *map(str, arguments)]
        return subprocess.CompletedProcess(words, process.returncode, out, err)


def _run(
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    files: list[str],
    prologue: str,
    ignores_hangup: bool,
) -> None:
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if ignores_hangup else signal.SIG_DFL)
    exec(prologue, {})
    main = sys.modules["dql_ros.cli.main"].main
    sys.argv = ["dql", *arguments]
    main()
