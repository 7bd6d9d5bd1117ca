"""The `dql` command: finds the verb, runs it, and turns an error into one line."""

from __future__ import annotations

import importlib
import keyword
import logging
import sys
import traceback
import warnings
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from dql_core.cli.terminal import PlainFormatter, tell
from dql_core.errors import DqlError

# Verb -> module that holds a function of the verb's name (with `_` after it if Python keeps the
# name for itself), or a group of such functions, and what `dql --help` says of it.
# The module is imported when its verb runs, so that no verb waits for another's libraries.
VERBS = {
    "contract": ("dql_ros.cli.contract", "Make a robot's contract, and see whether one fits."),
    "convert": ("dql_ros.cli.convert", "Turn recorded bags into a Minari dataset."),
    "import": (
        "dql_core.cli.import_dataset",
        "Turn a d3rlpy, D4RL or .npz file into a Minari dataset.",
    ),
    "relabel": ("dql_core.cli.relabel", "Give a dataset other rewards."),
    "train": ("dql_core.cli.train", "Train a policy on a dataset."),
    "evaluate": ("dql_core.cli.evaluate", "Roll a policy out in a Gymnasium environment."),
    "export": ("dql_core.cli.export", "Turn a checkpoint into a policy bundle for the robot."),
    "bench": ("dql_core.cli.bench", "Measure how fast a bundle chooses actions on this machine."),
    "inspect": ("dql_ros.cli.inspect", "Show what a bag, dataset, checkpoint or bundle holds."),
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

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line; a mistake in it is one line, as any other."""
        options["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **options))
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            _tell_usage(error)
            sys.exit(getattr(error, "exit_code", 2))


app = typer.Typer(cls=Verbs, no_args_is_help=True, add_completion=False)


@app.callback()
def _dql(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """From rosbags to a Diffusion-QL policy that drives a robot from a ROS 2 node."""


def main() -> None:
    """Run the command line; exits with 2 on a user's mistake and with 1 on a failure of ours."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}"
    logging.captureWarnings(True)
    try:
        app(arguments, prog_name="dql")
    except Exception as error:  # noqa: BLE001  # each is told
        sys.exit(_show_traceback() if "--debug" in sys.argv else _report(error))


def _show_traceback() -> int:
    """Print the traceback of the exception that is handled and return the exit code."""
    for line in traceback.format_exc().split("\n"):
        tell(line, err=True)
    return 1


def _tell_usage(error: Any) -> None:
    """Tell a mistake that typer found in the command line."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    where = f"; see '{context.command_path} --help'" if context else ""
    message = " ".join(error.format_message().split()).rstrip(".")
    tell(f"dql: {message}{where}", err=True)


def _load(verb: str) -> Any:
    module = importlib.import_module(VERBS[verb][0])
    name = verb.replace("-", "_")
    found = getattr(module, f"{name}_" if keyword.iskeyword(name) else name)
    if isinstance(found, typer.Typer):
        group: Any = typer.main.get_command(found)
        for command in group.commands.values():
            command.help = _flowing(command.help)
        return group
    single = typer.Typer(add_completion=False)
    single.command(verb, help=_flowing(found.__doc__))(found)
    return typer.main.get_command(single)


def _flowing(text: str) -> str:
    """Return the paragraphs of a docstring, each on one line, for a terminal to wrap."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _report(error: Exception) -> int:
    """Print ``error`` as one line on stderr and return the exit code."""
    message = " ".join(str(error).split())
    if isinstance(error, DqlError):
        tell(f"dql: {message}", err=True)
        return 2
    kind = type(error).__name__
    tell(f"dql: internal error: {kind}: {message} (run with --debug for the traceback)", err=True)
    return 1


if __name__ == "__main__":
    main()
