"""The `dql` command: finds the verb, runs it, and turns an error into one line."""

from __future__ import annotations

import functools
import importlib
import keyword
import logging
import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from types import FrameType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from dql_core.cli.terminal import PlainFormatter, print_line
from dql_core.errors import DqlError, is_system_error, one_line, system_error_text
from dql_core.extras import require_complete

# Verb -> module that holds a function of the verb's name (with `_` after it if Python keeps the
# name for itself), or a group of such functions, and what `dql --help` says of it.
# The module is imported when its verb runs, so that no verb waits for another's libraries.
VERBS = {
    "contract": ("dql_ros.cli.contract", "Make a robot's contract, and see whether one fits."),
    "convert": ("dql_ros.cli.convert", "Turn recorded bags into a Minari dataset."),
    "import": (
        "dql_core.cli.import_dataset",
        "Turn another library's data into a Minari dataset.",
    ),
    "dataset": ("dql_core.cli.dataset", "Join, choose, cut, split, score and export datasets."),
    "relabel": ("dql_core.cli.relabel", "Give a dataset other rewards."),
    "train": ("dql_core.cli.train", "Train a policy on a dataset."),
    "sweep": ("dql_core.cli.sweep", "Try many configurations, and say which trains best."),
    "evaluate": ("dql_core.cli.evaluate", "Roll a policy out in a Gymnasium environment."),
    "watch": (
        "dql_ros.cli.watch",
        "Show a training or a driving node as a page, while it goes on.",
    ),
    "judge": ("dql_ros.cli.judge", "Say by held-out episodes which policy is worth taking."),
    "export": ("dql_core.cli.export", "Turn a checkpoint into a policy bundle for the robot."),
    "bench": ("dql_core.cli.bench", "Measure how fast a bundle chooses actions on this machine."),
    "inspect": ("dql_ros.cli.inspect", "Show what a bag, dataset, checkpoint or bundle holds."),
    "label": ("dql_ros.cli.label", "Label episodes by keys while they are recorded."),
    "replay": ("dql_ros.cli.replay", "Show what a bundle would have commanded in recordings."),
    "closed-loop": ("dql_ros.cli.closed_loop", "Drive the simulated robot over ROS 2 topics."),
    "layout": ("dql_ros.cli.layout", "Make a Foxglove or PlotJuggler layout for a contract."),
    "sros2": ("dql_ros.cli.sros2", "Make the SROS 2 policy of a contract's nodes."),
    "doctor": ("dql_ros.cli.doctor", "Check whether this machine is fit to run a policy."),
    "demo": ("dql_ros.cli.demo", "Run everything, from recording to a driving robot."),
}


class Verbs(TyperGroup):
    """A command group that imports a verb's module only to run it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs in the order in which a user needs them."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what `dql --help` shows of a verb."""
        return TyperCommand(cmd_name, help=VERBS[cmd_name][1]) if cmd_name in VERBS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb itself, with its options."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name else placeholder, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; one that was asked to stop has cleaned up behind itself."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise typer.Exit(_ended(stop)) from None

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line; a mistake in it is one line, as any other."""
        options["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **options))
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            sys.exit(_report_usage(error))


class Ended(KeyboardInterrupt):
    """A signal asks this process to end.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number


app = typer.Typer(cls=Verbs, no_args_is_help=True, add_completion=False)


@app.callback()
def _dql(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """From rosbags to a Diffusion-QL policy that drives a robot from a ROS 2 node."""


def main() -> None:
    """Run the command line.

    It exits with 2 on a user's mistake, with 1 on a failure of ours, and with 128 and its number
    after a signal. SIGTERM, and SIGHUP unless it is ignored, end a verb as Ctrl-C does.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}"
    logging.captureWarnings(True)
    # A shell starts background jobs with SIGINT ignored; a verb can be stopped all the same.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    sys.exit(_flushed(_run()))


def _run() -> int | str | None:
    """Run the verb; return the exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments, prog_name="dql")
    except SystemExit as ended:
        return ended.code
    except BrokenPipeError:  # as of 'dql inspect BAG | head'
        return 1
    except Exception as error:  # noqa: BLE001  # each is reported
        if isinstance(error.__cause__, KeyboardInterrupt):  # before the verb began
            return _ended(error.__cause__)
        return _show_traceback() if "--debug" in sys.argv else _report(error)
    return 0


def _flushed(code: int | str | None) -> int | str | None:
    """Write out what was printed; return ``code``, or that of a disk with no room for it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # What is still in the buffer has no place to go to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or (1 if isinstance(error, BrokenPipeError) else _report(error))
    return code


def _ended(stop: KeyboardInterrupt) -> int:
    number = stop.number if isinstance(stop, Ended) else signal.SIGINT
    return _fail(f"ended by {number.name}; nothing unfinished is left behind", 128 + number)


def _end(number: int, _frame: FrameType | None) -> None:
    raise Ended(signal.Signals(number))


def _show_traceback() -> int:
    """Print the traceback of the exception that is handled and return the exit code."""
    for line in traceback.format_exc().split("\n"):
        print_line(line, err=True)
    return 1


def _report_usage(error: Any) -> int:
    """Print what typer found wrong with the command line; return the exit code."""
    context, code = getattr(error, "ctx", None), getattr(error, "exit_code", 2)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return code
    where = f"; see '{context.command_path} --help'" if context else ""
    return _fail(f"{one_line(error.format_message()).rstrip('.')}{where}", code)


def _load(verb: str) -> Any:
    module = importlib.import_module(VERBS[verb][0])
    name = verb.replace("-", "_")
    found = getattr(module, f"{name}_" if keyword.iskeyword(name) else name)
    if isinstance(found, typer.Typer):
        group: Any = typer.main.get_command(found)
        for command in group.commands.values():
            command.help = _flowing(command.help)
            command.callback = _complete(command.callback)
        return group
    single = typer.Typer(add_completion=False)
    single.command(verb, help=_flowing(found.__doc__))(found)
    command = typer.main.get_command(single)
    command.callback = _complete(command.callback)
    return command


def _complete(run: Any) -> Any:
    """Return what runs a verb, or says which extra it lacks; its help needs none."""

    @functools.wraps(run)
    def complete(*args: Any, **options: Any) -> Any:
        require_complete(run.__module__)
        return run(*args, **options)

    return complete


def _flowing(text: str) -> str:
    """Return the paragraphs of a docstring, each on one line, for a terminal to wrap."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _report(error: Exception) -> int:
    """Print ``error`` as one line on stderr and return the exit code."""
    text, code = one_line(error), 2
    if isinstance(error, OSError) and is_system_error(error):
        name = f"{error.filename}: " if isinstance(error.filename, str) else ""
        text = f"{name}{system_error_text(error)}"
    elif _wants_memory(error):
        text = f"not enough memory: {text}; do less at a time, or use a larger machine"
    elif not isinstance(error, DqlError):
        kind, code = type(error).__name__, 1
        text = f"internal error: {kind}: {error} (run with --debug for the traceback)"
    return _fail(text, code)


def _wants_memory(error: Exception) -> bool:
    """Whether there was no memory, which torch has errors of its own for."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _fail(text: str, code: int) -> int:
    with suppress(OSError):  # a terminal that is gone
        print_line(f"dql: {one_line(text)}", err=True)
    return code


if __name__ == "__main__":
    main()
