"""What a training learns from and what it begins with: two sections of its configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dql_core.strict_yaml import StrictModel, written_like

# Far beyond what is of use, and within what a computer can do.
MAX_COUNT = 1_000_000
Weight = Annotated[float, Field(gt=0, le=MAX_COUNT)]
InfoName = Annotated[str, written_like(r"\w{1,80}", "must be the name of an info, one word")]


class DataConfig(StrictModel):
    """What is learned from and how it is prepared.

    Attributes:
        dataset: Folder or Minari id, or a list of several whose fields mean the same;
            ``--dataset`` overrides it.
        normalize_observations: Standardise observations; the paper's code uses them raw.
        reward_transform: One of the paper's reward tunings, before `reward_scale`.
        reward_boundaries: What ends a return in ``iql_locomotion``: every ``episode`` end, or a
            ``termination`` only, as in the paper's code, where time limits run on.
        reward_scale: Every reward is multiplied by it.
        n_step: Rewards summed before the bootstrap; 1 in the paper. With ``policy.horizon`` it is
            1 unless stated, and nothing else is possible: a chunk's rewards are summed.
        out_of_bounds: What to do with actions beyond the bounds of the spec.
        ratio: In which ratio every batch is drawn from the datasets, a number for each in their
            order, such as ``[1, 1]`` for halves. Empty: as if they were one, so that a large one
            has more of it.
        weights: How many times as often as others a step is drawn of which an info of the dataset
            says yes, by the info's name: ``{intervention: 4}`` for what a person commanded who
            took over. Several are multiplied; among the steps of a dataset where `ratio` is set.
        previous_action_dropout: At which share of what is drawn the policy and the critics are not
            told the ``previous_action`` that the contract observes: in its place they get the
            mean (0 where observations are not normalised), in both observations of a transition.
            What is learned from the last command alone then costs; 0.5 is a good beginning.
    """

    dataset: str | tuple[str, ...] = ""
    normalize_observations: bool = True
    reward_transform: Literal[
        "none", "normalize", "iql_locomotion", "iql_antmaze", "cql_antmaze", "antmaze"
    ] = "none"
    reward_boundaries: Literal["episode", "termination"] = "episode"
    reward_scale: float = Field(default=1.0, gt=0)
    n_step: int = Field(default=10, ge=1, le=MAX_COUNT)
    out_of_bounds: Literal["refuse", "clip"] = "refuse"
    ratio: tuple[Weight, ...] = ()
    weights: dict[InfoName, Weight] = Field(default_factory=dict)
    previous_action_dropout: float = Field(default=0.0, ge=0, lt=1)

    @property
    def datasets(self) -> tuple[str, ...]:
        """All that is learned from; empty if nothing is named."""
        named = (self.dataset,) if isinstance(self.dataset, str) else self.dataset
        return tuple(name for name in named if name)


class InitConfig(StrictModel):
    """What the networks begin with; by default with random weights.

    Attributes:
        run: Run folder, of which the last checkpoint counts, or the folder of a checkpoint, whose
            weights are trained on; ``--init-from`` overrides it. Empty for random weights.
        normalizer: ``kept``: observations are normalised as there, so that the weights mean what
            they meant. ``refitted``: by the new data, so that the first updates learn anew what
            the inputs mean.
    """

    run: str = ""
    normalizer: Literal["kept", "refitted"] = "kept"
