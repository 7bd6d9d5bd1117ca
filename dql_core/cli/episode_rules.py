"""The options by which commands of `dql dataset` choose episodes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from dql_core.data.curation.rules import Outcome, Rules

_OPTIONS: dict[str, Any] = {
    "episode": Annotated[
        str | None,
        typer.Option(metavar="N[-M][,...]", help="Numbers and ranges, from 0: such as 0-4,7."),
    ],
    "outcome": Annotated[
        Outcome | None,
        typer.Option(
            help="How the episode ended: success and failure go by its info 'success', which "
            "unlabelled ones have not got."
        ),
    ],
    "min_return": Annotated[
        float | None, typer.Option(help="Least sum of its rewards, without discount.")
    ],
    "max_return": Annotated[float | None, typer.Option(help="Largest sum of its rewards.")],
    "min_length": Annotated[int | None, typer.Option(min=0, help="Least number of steps.")],
    "max_length": Annotated[int | None, typer.Option(min=0, help="Largest number of steps.")],
    "min_intervention": Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Least share of its steps in which a person intervened, by the info "
            "'intervention'.",
        ),
    ],
    "max_intervention": Annotated[
        float | None, typer.Option(min=0, max=1, help="Largest share of such steps.")
    ],
}
_PARAMETERS = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
    for name, option in _OPTIONS.items()
]


def with_rules(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, which takes `Rules` as ``rules``, an option for each rule.

    Args:
        command: Its other parameters are options and arguments of typer.
    """

    def run(**given: Any) -> None:
        limits = {name: given.pop(name) for name in _OPTIONS}
        command(rules=Rules(limits.pop("episode"), **limits), **given)

    own = inspect.signature(command, eval_str=True)
    kept = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, each in own.parameters.items()
        if name != "rules"
    ]
    # By which typer knows the parameters of a function.
    vars(run)["__signature__"] = own.replace(parameters=[*kept, *_PARAMETERS])
    for name in ("__name__", "__doc__", "__module__"):
        setattr(run, name, getattr(command, name))
    return run
