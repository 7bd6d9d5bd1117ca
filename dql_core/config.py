"""The training configuration: strict sections, read from yaml, hashed and saved with each run.

Every key has a default, so a file states only what differs; the resolved configuration is saved
with each run. Names follow the paper (arXiv 2208.06193) where it has one. Where the paper's code
(https://github.com/Zhendong-Wang/Diffusion-Policies-for-Offline-RL) does otherwise than the
default, the key says so: `preset: paper` sets all of these at once, and
docs/explanation/deviations.md explains why the defaults differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from dql_core.data_config import MAX_COUNT, DataConfig, InitConfig
from dql_core.errors import ConfigError
from dql_core.models.schedule import ImitationLoss, Prediction, Sampler, ScheduleName, Variance
from dql_core.presets import FORMER_RATIO, PresetName, filled_in, without_neutral_keys
from dql_core.runtime.policy import FEWEST_TO_AGREE, MAX_HORIZON, Selection
from dql_core.strict_yaml import StrictModel, parse, parse_assignment, read_yaml

# Far beyond what is of use, and within what a computer can do, as `MAX_COUNT`: a configuration may
# be somebody else's, in a run or a bundle.
MAX_STEPS = 10**12
MAX_WIDTH, MAX_DEPTH = 16_384, 64
MAX_DIFFUSION_STEPS = 10_000
MAX_WEIGHTS = 1 << 27
FLOAT_BYTES = 4
PolicyKind = Literal["diffusion", "mean_flow"]
AgentName = Literal["diffusion_ql", "diffusion_bc", "td3_bc"]
# Agents that learn no values, and agents whose policy makes no actions of noise.
AGENTS_WITHOUT_CRITICS = frozenset({"diffusion_bc"})
DETERMINISTIC_AGENTS = frozenset({"td3_bc"})


class RunConfig(StrictModel):
    """How long and where to train.

    Attributes:
        steps: Number of updates.
        batch_size: Transitions in an update, B.
        seed: Seeds initial weights, batches and the diffusion's noise.
        learning_rate_decay: ``cosine`` falls to zero over all steps; ``cosine_every_50_epochs``
            moves along that curve once in 50,000 updates by what one of 1,000 should move, as
            the paper's code does: practically no decay at all.
        log_every: Updates between two lines of metrics.
        checkpoint_every: Updates between two checkpoints; the last update always makes one.
        device: Where the networks are; ``auto`` takes CUDA if there is one.
        num_threads: Threads of a CPU operation; 0 leaves the choice to torch.
        execution: ``compiled`` turns an update into machine code, which takes a minute; ``eager``
            runs it operation by operation; ``auto`` compiles what is long enough to gain from it.
            On CUDA, ``compiled`` and ``auto`` capture the update as a CUDA graph.
        precision: Of the matrix products; weights, losses and optimisers are float32 always.
    """

    steps: int = Field(default=100_000, ge=1, le=MAX_STEPS)
    batch_size: int = Field(default=256, ge=1, le=100_000)
    seed: int = Field(default=0, ge=0)
    learning_rate_decay: Literal["cosine", "constant", "cosine_every_50_epochs"] = "cosine"
    log_every: int = Field(default=100, ge=1, le=MAX_COUNT)
    checkpoint_every: int = Field(default=10_000, ge=1)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    num_threads: int = Field(default=0, ge=0, le=1024)
    execution: Literal["auto", "eager", "compiled"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"


class DiffusionConfig(StrictModel):
    """The diffusion process over actions; no part of ``policy.kind: mean_flow``.

    Attributes:
        num_diffusion_steps: Steps from noise to action, N.
        schedule: ``cosine``, ``vp`` as in the paper, or ``linear`` (for N in the hundreds).
        prediction: What the network predicts of a noisy action: the noise in it (``epsilon``, as
            in the paper), the clean action (``x0``), or both mixed (``v``, arXiv 2202.00512).
        loss: Imitation squares the error of the ``noise`` that follows, as in the paper, of the
            ``prediction``, or the ``larger`` at each noise level: of ``x0`` truncated SNR (ibid.).
        sampler: ``ddpm`` as in the paper, or the deterministic ``ddim``.
        num_sampling_steps: Reverse steps that ``ddim`` takes, spread over the N; null for all.
        variance: Covariance of a ``ddpm`` step: ``posterior`` as in the paper's code, ``beta``
            as in the paper.
        clip_denoised: Clip the clean action that each reverse step predicts to the bounds.
    """

    num_diffusion_steps: int = Field(default=5, ge=1, le=MAX_DIFFUSION_STEPS)
    schedule: ScheduleName = "cosine"
    prediction: Prediction = "x0"
    loss: ImitationLoss = "larger"
    sampler: Sampler = "ddpm"
    num_sampling_steps: int | None = Field(default=None, ge=1)
    variance: Variance = "posterior"
    clip_denoised: bool = True

    @model_validator(mode="after")
    def _sampling_steps_fit(self) -> DiffusionConfig:
        steps = self.num_sampling_steps
        if steps is not None and self.sampler == "ddpm":
            raise ValueError("num_sampling_steps needs sampler: ddim; ddpm takes every step")
        if steps is not None and steps > self.num_diffusion_steps:
            raise ValueError(
                f"num_sampling_steps is {steps}: it must be at most num_diffusion_steps "
                f"({self.num_diffusion_steps})"
            )
        return self


class PolicyConfig(StrictModel):
    """The policy's network and how it learns.

    Attributes:
        kind: How it makes actions of noise: by a ``diffusion`` process as in the paper, or by a
            ``mean_flow``, in one call of the network (MeanFlow, arXiv 2505.13447; with values,
            one-step flow Q-learning, arXiv 2508.13904).
        horizon: Actions of a decision, H. With more than 1 the policy emits chunks of so many
            consecutive actions, which the critics judge as one (Q-chunking, arXiv 2507.07969).
        width: Units of a hidden layer.
        depth: Number of hidden layers.
        learning_rate: Adam's step size at the start; 3e-4 in the paper's code, mostly.
        gradient_clip: Largest norm of the gradient; null for no limit.
        eta: Weight of the values against the imitation of an action of the data; larger trusts
            the critics more. No part of Diffusion-BC.
        max_imitation_ratio: How many times as large as that of a twin that only imitates the
            policy's imitation loss may get; where it would be larger, the weight of the values
            falls below eta. Null for no limit, as in the paper. TD3+BC has none.
        policy_gradient: Where the gradient of the values enters: at the end of the whole reverse
            ``chain`` as in the paper, or at the clean action that ``one_step`` predicts from a
            noised action of the data (Efficient Diffusion Policy, arXiv 2305.20081). The chain of
            ``kind: mean_flow`` is a single step.
        ema_rate: How far the averaged policy moves towards the policy at a time.
        ema_every: Updates between two such moves.
        ema_start: Updates before the first such move; 1000 in the paper's code, whose average
            stays the initial random network until then.
    """

    kind: PolicyKind = "diffusion"
    horizon: int = Field(default=1, ge=1, le=MAX_HORIZON)
    width: int = Field(default=256, ge=1, le=MAX_WIDTH)
    depth: int = Field(default=3, ge=1, le=MAX_DEPTH)
    learning_rate: float = Field(default=3e-3, gt=0)
    gradient_clip: float | None = Field(default=5.0, gt=0)
    eta: float = Field(default=1.0, ge=0)
    max_imitation_ratio: float | None = Field(default=1.1, gt=1)
    policy_gradient: Literal["chain", "one_step"] = "chain"
    ema_rate: float = Field(default=0.005, gt=0, le=1)
    ema_every: int = Field(default=5, ge=1)
    ema_start: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _gradient_is_one_of_the_kind(self) -> PolicyConfig:
        if self.kind == "mean_flow" and self.policy_gradient == "one_step":
            raise ValueError(
                "policy_gradient: one_step: kind: mean_flow is a single step already: set chain"
            )
        return self


class CriticConfig(StrictModel):
    """The critics and how they learn; no part of Diffusion-BC.

    Attributes:
        kind: Those of the ``policy``, as in the paper: it takes the next actions in targets.
            ``expectile``: only the data's actions enter, and a value of the next observation
            takes the place of the next action (implicit Q-learning, arXiv 2110.06169); with
            policy.eta 0, candidates are imitated and ranked by it (IDQL, arXiv 2304.10573).
        expectile: Of ``expectile``: 0.5 is the mean value of the data's actions in a state; the
            nearer to 1, the nearer it is to the best.
        width: Units of a hidden layer.
        depth: Number of hidden layers.
        layer_norm: Normalise hidden layers, against runaway values; not so in the paper.
        dueling: Learn a state's value apart, and in the critics what it leaves, which depends on
            the action only as far as the data asks.
        learning_rate: Adam's step size at the start; 3e-4 in the paper's code.
        gradient_clip: Largest norm of all critics' gradient; null for no limit.
        discount: Weight of the value of the next observation, gamma.
        tau: How far the target critics move towards the critics in an update.
        max_q_samples: Next actions sampled for a target, of which the best counts: more than 1 is
            the paper's max-Q backup (10 there).
        bound_targets: Clip targets to the discounted returns that the data's rewards allow: the
            smallest and the largest, earned in every step up to the length of the longest
            episode, or for ever if an episode is truncated. The paper has no such bounds.
        num_critics: How many critics there are; two in the paper.
        lower_bound: How critics are taken together. If null, as in the paper: the smallest makes
            targets and ranks, and one, drawn for each update, guides. A number k makes it the mean
            minus k standard deviations over the critics in all three.
    """

    kind: Literal["policy", "expectile"] = "policy"
    expectile: float = Field(default=0.7, gt=0, lt=1)
    width: int = Field(default=256, ge=1, le=MAX_WIDTH)
    depth: int = Field(default=3, ge=1, le=MAX_DEPTH)
    layer_norm: bool = True
    dueling: bool = False
    learning_rate: float = Field(default=1e-3, gt=0)
    gradient_clip: float | None = Field(default=5.0, gt=0)
    discount: float = Field(default=0.99, ge=0, lt=1)
    tau: float = Field(default=0.005, gt=0, le=1)
    max_q_samples: int = Field(default=1, ge=1, le=100)
    bound_targets: bool = True
    num_critics: int = Field(default=2, ge=1, le=64)
    lower_bound: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _keys_go_together(self) -> CriticConfig:
        if self.kind == "expectile" and self.max_q_samples > 1:
            raise ValueError(
                f"max_q_samples: {self.max_q_samples} next actions are sampled for kind: policy; "
                f"kind: expectile samples none: set max_q_samples to 1"
            )
        if self.lower_bound is not None and self.num_critics < 2:
            raise ValueError(
                f"lower_bound: {self.lower_bound:g} is of several critics: set num_critics to 2 "
                f"or more, or lower_bound to null"
            )
        return self


class Td3Config(StrictModel):
    """What only TD3+BC has (arXiv 2106.06860); the rest it takes from `policy` and `critic`.

    Attributes:
        alpha: Weight of the values against the imitation of an action of the data.
        target_noise: Standard deviation of the noise on target actions, in [-1, 1] units.
        target_noise_clip: Largest such noise.
        policy_every: Critic updates for each update of the policy.
    """

    alpha: float = Field(default=2.5, ge=0)
    target_noise: float = Field(default=0.2, ge=0)
    target_noise_clip: float = Field(default=0.5, ge=0)
    policy_every: int = Field(default=2, ge=1)


class SelectionConfig(StrictModel):
    """How the trained policy chooses an action; an exported bundle takes these as its defaults.

    Attributes:
        num_candidates: Actions sampled for a decision, K.
        rule: ``softmax`` draws a candidate by its value, ``greedy`` takes the best, ``mode`` what
            most agree on, the better ones the more, ``first`` the first. Null: ``mode`` by values
            of at least five candidates, ``softmax`` of fewer, ``first`` without values.
        temperature: Of ``softmax`` and of the weights of ``mode``.
        temperature_scale: ``relative`` to the standard deviation of the values over the
            candidates, or ``raw`` as in the paper, where the scale of the rewards counts.
        weights: Of the averaged policy (``ema``) or of the last update (``online``), as in the
            paper's code.
        critics: Which critics rank: the ``target`` critics, those of the last update (``online``),
            or ``untrained`` ones, which the paper's code is left with when it loads a model.
    """

    num_candidates: int = Field(default=50, ge=1, le=10_000)
    rule: Selection | None = None
    temperature: float = Field(default=1.0, gt=0)
    temperature_scale: Literal["relative", "raw"] = "relative"
    weights: Literal["ema", "online"] = "ema"
    critics: Literal["target", "online", "untrained"] = "target"


class ValidationConfig(StrictModel):
    """What is measured without an environment, and which checkpoint is called the best.

    Attributes:
        rule: What makes a checkpoint ``best_offline``: the imitation loss since the checkpoint
            before (``bc_loss``, the paper's), the critics' error on held-out episodes
            (``td_error``, which is small, too, before they have learned anything), the distance
            of their values from the returns there (``value_error``), or what `dql judge` says of
            the checkpoint there, by a shorter fit (``judge``, which takes time at each).
        held_out: Share of the episodes kept from training to measure on.
        bc_loss_rank: Which checkpoint ``bc_loss`` takes: 0 has the smallest loss, 1 the next one
            (the paper's top_k).
        bc_loss_ranking: ``by_loss``, or ``paper_code``, which mistakes the rank of the n-th
            checkpoint for the checkpoint of the n-th rank.
        divergence_factor: The alarm is raised where mean Q or mean |Q| leaves the range of the
            discounted returns in the data times this factor, by more than a tenth of it, or 0.2
            if that is more; a truncated episode counts as if it went on as it went. Also where
            the critics' error grows, to more than that, in five readings in a row.
        on_divergence: What an alarm does beside its report: ``warn`` goes on, ``stop`` ends the
            run; the checkpoint ``last_healthy`` is from before.
    """

    rule: Literal["bc_loss", "td_error", "value_error", "judge"] = "bc_loss"
    held_out: float = Field(default=0.0, ge=0, lt=1)
    bc_loss_rank: int = Field(default=0, ge=0)
    bc_loss_ranking: Literal["by_loss", "paper_code"] = "by_loss"
    divergence_factor: float = Field(default=1.0, gt=0)
    on_divergence: Literal["warn", "stop"] = "warn"

    @model_validator(mode="after")
    def _rule_has_episodes_to_measure_on(self) -> ValidationConfig:
        if self.rule != "bc_loss" and self.held_out == 0:
            raise ValueError(
                f"rule: {self.rule} is measured on held-out episodes: set held_out, such as 0.1"
            )
        return self


class EvaluationConfig(StrictModel):
    """Rollouts during training; ``--eval-env`` overrides `env`.

    Attributes:
        env: Gymnasium id; empty for none.
        episodes: Episodes for each checkpoint, all at once.
        seed: Episode i starts from ``reset(seed=seed + i)``.
    """

    env: str = ""
    episodes: int = Field(default=20, ge=1, le=MAX_COUNT)
    seed: int = Field(default=10_000, ge=0)


class TrainConfig(StrictModel):
    """Everything that decides what a training run computes."""

    agent: AgentName = "diffusion_ql"
    preset: PresetName | None = None
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    init: InitConfig = InitConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    policy: PolicyConfig = PolicyConfig()
    critic: CriticConfig = CriticConfig()
    td3: Td3Config = Td3Config()
    selection: SelectionConfig = SelectionConfig()
    validation: ValidationConfig = ValidationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, document: Any) -> Any:
        return filled_in(document)

    @model_validator(mode="after")
    def _keys_go_together(self) -> TrainConfig:
        if self.policy.horizon > 1 and self.data.n_step > 1:
            raise ValueError(
                f"data.n_step: {self.data.n_step}: with policy.horizon: {self.policy.horizon} a "
                f"transition has as many steps as a chunk: set data.n_step to 1"
            )
        if not self.learns_values and self.validation.rule in {"td_error", "value_error"}:
            raise ValueError(
                f"validation.rule: {self.validation.rule} is measured on values, which "
                f"{self.agent} does not learn: use judge or bc_loss"
            )
        rule, count = self.selection.rule, self.selection.num_candidates
        if rule == "mode" and count < FEWEST_TO_AGREE and self.agent not in DETERMINISTIC_AGENTS:
            raise ValueError(
                f"selection.num_candidates: {count} are too few for selection.rule: mode: sample "
                f"at least {FEWEST_TO_AGREE}, or 20 to have little noise"
            )
        return self

    @model_validator(mode="after")
    def _networks_have_a_size(self) -> TrainConfig:
        for name, network, copies in self._networks():
            pairs = max(1.0, copies / 2)  # the limit is that of two critics
            weights = int(pairs * (network.depth - 1) * network.width**2)
            if weights > MAX_WEIGHTS:
                raise ValueError(
                    f"{name}.width: {network.width} with {name}.depth: {network.depth}"
                    f"{f' and {name}.num_critics: {copies}' if copies > 2 else ''} makes "
                    f"{weights:,} weights: at most {MAX_WEIGHTS:,} are possible"
                )
        return self

    @model_validator(mode="after")
    def _keys_are_the_agents(self) -> TrainConfig:
        ratio, has_one_action = self.policy.max_imitation_ratio, self.agent in DETERMINISTIC_AGENTS
        is_usual = ratio in (None, FORMER_RATIO, PolicyConfig().max_imitation_ratio)
        wrong = ""
        if self.policy.kind == "mean_flow" and has_one_action:
            wrong = "policy.kind: mean_flow, which makes actions of noise: set that to diffusion"
        elif self.critic.kind == "expectile" and has_one_action:
            wrong = "critic.kind: expectile, which ranks several actions: set that to policy"
        elif self.agent != "diffusion_ql" and not is_usual:
            wrong = "policy.max_imitation_ratio, which limits guidance: set that to null"
        if wrong:
            raise ValueError(f"{self.agent} does not go with {wrong}, or use diffusion_ql")
        return self

    @property
    def num_network_calls(self) -> int:
        """Calls of the policy's network that an action takes."""
        if self.policy.kind == "mean_flow" or self.agent in DETERMINISTIC_AGENTS:
            return 1
        return self.diffusion.num_sampling_steps or self.diffusion.num_diffusion_steps

    @property
    def learns_values(self) -> bool:
        """Whether the agent has critics, which learn from rewards."""
        return self.agent not in AGENTS_WITHOUT_CRITICS

    def require_room(
        self, observation_size: int, action_size: int, num_bytes: int, *, with_critics: bool = True
    ) -> None:
        """Refuse networks that a file of weights cannot hold, before they are made.

        Args:
            observation_size: O.
            action_size: A.
            num_bytes: Size of the file.
            with_critics: Whether it is to hold the critics, too, if the agent has any.

        Raises:
            ValueError: If they need more.
        """
        size = observation_size + self.policy.horizon * action_size
        needed = FLOAT_BYTES * sum(
            copies * network.width * (size + (network.depth - 1) * network.width)
            for name, network, copies in self._networks()
            if name != "critic" or (with_critics and self.learns_values)
        )
        if needed > num_bytes:
            raise ValueError(
                f"its networks need {needed:,} bytes of weights, and the file has {num_bytes:,}"
            )

    def _networks(self) -> tuple[tuple[str, PolicyConfig | CriticConfig, int], ...]:
        """Return section, settings and number of the networks that learn."""
        return ("policy", self.policy, 1), ("critic", self.critic, self.critic.num_critics)

    def to_yaml(self) -> str:
        """Return the resolved configuration as a yaml document."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))

    def hash(self) -> str:
        """SHA-256 of the configuration's meaning: comments and key order do not change it."""
        document = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, without later keys where they change nothing."""
        return without_neutral_keys(self.model_dump(mode="json"))


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration file and apply ``section.key=value`` overrides to it.

    Args:
        path: The yaml file.
        overrides: As on the command line; the value is read as yaml.

    Raises:
        ConfigError: Naming the file or the override, the key, its value and the rule it breaks.
    """
    document = read_yaml(path, ConfigError)
    return _overridden(document, parse(document, TrainConfig, str(path), ConfigError), overrides)


def changed_config(config: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """Return ``config`` with ``section.key=value`` overrides, and defaults that go with them.

    Raises:
        ConfigError: As `load_config` does.
    """
    return _overridden(config.model_dump(mode="json", exclude_unset=True), config, overrides)


def stated_config(overrides: Sequence[str]) -> TrainConfig:
    """Return a configuration in which nothing is set but what ``overrides`` say.

    Raises:
        ConfigError: As `load_config` does.
    """
    return _overridden({}, TrainConfig(), overrides)


def _overridden(
    document: dict[str, Any], config: TrainConfig, overrides: Sequence[str]
) -> TrainConfig:
    breach: ConfigError | None = None
    for override in overrides:
        _apply(document, override)
        try:
            config = parse(document, TrainConfig, f"--set {override}", ConfigError)
            breach = None
        except ConfigError as error:
            breach = breach or error  # which a later override may correct
    if breach:
        raise breach
    return config


def _apply(document: dict[str, Any], override: str) -> None:
    """Set one dotted key of ``document`` in place."""
    key, value = parse_assignment(override, "--set", "section.key=value")
    *sections, last = key.split(".")
    for section in sections:
        if document.get(section) is None:
            document[section] = {}
        document = document[section]
        if not isinstance(document, dict):
            raise ConfigError(f"--set {override}: '{section}' is a value and has no keys")
    document[last] = value
