"""How the suite's commands report a mistake: one line, exit status 2."""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

from dql_core.errors import DqlError
from dql_core.process import INTERRUPTED

MISTAKE = 2
Options = functools.partial(argparse.ArgumentParser, allow_abbrev=False)


class Main(Protocol):
    """A command; without arguments it takes those of the process."""

    def __call__(self, arguments: Sequence[str] | None = None) -> None:
        """Run it."""


def exit_on_mistake(main: Callable[[Sequence[str] | None], None]) -> Main:
    """Let ``main`` report a user's mistake without a traceback."""

    @functools.wraps(main)
    def reporting(arguments: Sequence[str] | None = None) -> None:
        try:
            with warnings.catch_warnings():
                # Gymnasium's word on the environments that D4RL's reference returns are of.
                warnings.filterwarnings("ignore", "(?s).*out of date", DeprecationWarning)
                main(arguments)
        except DqlError as mistake:
            print(f"error: {mistake}", file=sys.stderr)
            sys.exit(MISTAKE)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on", file=sys.stderr)
            sys.exit(INTERRUPTED)

    return reporting
