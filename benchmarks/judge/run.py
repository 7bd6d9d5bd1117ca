"""Roll out and judge the policies of a set, and add a row of results for each.

    python -m benchmarks.judge.run --set hopper-mixed

One thread, on the CPU. `benchmarks.judge.policies` makes the policies. What is done already is not
done again: rollouts and d3rlpy's values are kept for each policy, the judgement as a whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from benchmarks.judge.d3rlpy_fqe import Answers, Fitted, fit
from benchmarks.judge.estimates import Estimates, estimate, policy_of, td_error
from benchmarks.judge.policies import OUT, Made, read_policies
from benchmarks.judge.rows import Row
from benchmarks.judge.splits import NAMES, Split, find_judged_set
from benchmarks.judge.truth import Truth, recorded_return, roll_out
from benchmarks.machine import machine
from benchmarks.suite.command import Options, exit_on_mistake
from benchmarks.suite.rows import ROWS_FILE, add_row, claim, read_rows_of
from benchmarks.suite.run import versions
from dql_core.data.dataset import LoadedDataset
from dql_core.errors import ConfigError
from dql_core.evaluation.offline.fitted_q import FittingSettings
from dql_core.evaluation.statistics import estimate_mean
from dql_core.files import write_text
from dql_core.training.run_folder import fingerprint

FIT = FittingSettings()
Part = TypeVar("Part")


@dataclass(frozen=True)
class Judging:
    """What is judged, by what, and where what is done is kept.

    Attributes:
        options: Of the command.
        folder: The set's.
        made: Its policies.
        held_out: What they are judged by.
        fitting: How values are fitted.
    """

    options: argparse.Namespace
    folder: Path
    made: list[Made]
    held_out: LoadedDataset
    fitting: FittingSettings

    @property
    def updates(self) -> int:
        """Updates of the judge's fits, those towards the recorded returns included."""
        return self.fitting.warm_up + self.fitting.updates


@exit_on_mistake
def main(arguments: Sequence[str] | None = None) -> None:
    """Do what is missing, one line a policy."""
    options = _options(arguments)
    torch.set_num_threads(1)
    with claim(options.out, f"run-{options.set}") as mine:
        if not mine:
            raise ConfigError(f"{options.out}: another process judges policies of {options.set}")
        folder = options.out / options.set
        made = read_policies(folder)
        held_out = Split(folder / "data").held_out()
        fitting = FittingSettings(warm_up=options.warm_up, updates=options.updates)
        judge_set(Judging(options, folder, made, held_out, fitting))


def judge_set(judging: Judging) -> None:
    """Add the rows that are missing."""
    options, sha256 = judging.options, fingerprint(judging.held_out)
    known = read_rows_of(Row, options.out / ROWS_FILE)
    own = {key: row for key, row in known.items() if row.set_name == options.set}
    if any(row.data_sha256 != sha256 or row.updates != judging.updates for row in own.values()):
        raise ConfigError(
            f"{options.out / ROWS_FILE}: holds rows of {options.set} that were judged by other "
            f"episodes or with other updates; give another --out"
        )
    estimates = _estimates(judging)
    behaviour = _behaviour(judging, estimates.discount)
    for made in judging.made:
        if f"{options.set}_{made.name}" in own:
            continue
        row = Row(
            set_name=options.set,
            policy=made,
            truth=_truth(judging, made, estimates.discount),
            estimated=estimates.policies[made.name],
            d3rlpy=None if options.without_d3rlpy else _d3rlpy(judging, made, estimates.discount),
            td_error=td_error(made, judging.folder, judging.held_out),
            discount=estimates.discount,
            behaviour=behaviour,
            judged_behaviour=estimates.behaviour,
            together=len(judging.made),
            seconds=estimates.seconds,
            cpu_seconds=estimates.cpu_seconds,
            learned=estimates.learned,
            held_out=judging.held_out.num_transitions,
            episodes=len(judging.held_out.episodes),
            updates=judging.updates,
            data_sha256=sha256,
            machine=machine() | {"versions": versions()},
        )
        add_row(options.out, row)
        print(_line(row), flush=True)


def _estimates(judging: Judging) -> Estimates:
    path = judging.folder / "judgement.json"

    def make() -> Estimates:
        estimates, asked = estimate(
            judging.made,
            judging.folder,
            judging.held_out,
            judging.fitting,
            judging.options.seed,
        )
        for name, remembering in asked.items():
            states = [np.frombuffer(each, dtype=np.float32) for each in remembering.answers]
            answers = Answers(np.stack(states), np.stack(list(remembering.answers.values())))
            answers.save(_answers(judging, name))
        return estimates

    estimates = _kept(path, Estimates, make)
    if set(estimates.policies) != {each.name for each in judging.made}:
        raise ConfigError(f"{path}: is of other policies than {judging.folder} has; remove it")
    return estimates


def _truth(judging: Judging, made: Made, discount: float) -> Truth:
    env_id, options = find_judged_set(judging.options.set).env_id, judging.options
    path = judging.folder / "truth" / f"{made.name}_{options.episodes}.json"
    policy = policy_of(made, judging.folder)
    return _kept(
        path,
        Truth,
        lambda: roll_out(policy, env_id, judging.held_out.spec, discount, options.episodes),
    )


def _d3rlpy(judging: Judging, made: Made, discount: float) -> Fitted:
    answers = Answers.load(_answers(judging, made.name))
    return _kept(
        judging.folder / "d3rlpy" / f"{made.name}_{judging.updates}.json",
        Fitted,
        lambda: fit(judging.held_out, answers, discount, judging.updates, judging.options.seed),
    )


def _behaviour(judging: Judging, discount: float) -> float:
    returns = recorded_return(Split(judging.folder / "data").all_episodes(), discount)
    return float(np.mean(returns))


def _answers(judging: Judging, name: str) -> Path:
    return judging.folder / "answers" / f"{name}.npz"


def _kept(path: Path, kind: type[Part], make: Callable[[], Part]) -> Part:
    """Return what was kept, or make and keep it."""
    adapter: TypeAdapter[Part] = TypeAdapter(kind)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, adapter.dump_json(make()).decode() + "\n")
    try:
        return adapter.validate_json(path.read_bytes())
    except ValidationError as cause:
        raise ConfigError(f"{path}: is no {kind.__name__}; remove it: {cause}") from cause


def _line(row: Row) -> str:
    truth = estimate_mean(row.truth.discounted)
    own = row.estimated
    judged = "" if own.value is None else f" {own.value:.4g} [{own.low:.4g}, {own.high:.4g}]"
    theirs = "" if row.d3rlpy is None else f", d3rlpy {row.d3rlpy.value:.4g}"
    return (
        f"{row.key}: true {truth.mean:.4g} [{truth.low:.4g}, {truth.high:.4g}], judged "
        f"{own.verdict}{judged}{theirs}"
    )


def _options(arguments: Sequence[str] | None) -> Any:
    parser = Options(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", required=True, help=f"{', '.join(NAMES)}, or a subset")
    parser.add_argument("--out", type=Path, default=OUT, help="where the policies are")
    parser.add_argument("--episodes", type=int, default=20, help="rollouts of each policy")
    parser.add_argument("--seed", type=int, default=0, help="of the judge and of d3rlpy")
    parser.add_argument("--warm-up", type=int, default=FIT.warm_up, help="towards returns")
    parser.add_argument("--updates", type=int, default=FIT.updates, help="of the judge's fits")
    parser.add_argument("--without-d3rlpy", action="store_true", help="where it is not installed")
    options = parser.parse_args(arguments)
    if options.episodes < 2 or options.updates < 8 or options.warm_up < 1:
        raise ConfigError("--episodes at least 2, --updates at least 8, --warm-up at least 1")
    return options


if __name__ == "__main__":
    main()
