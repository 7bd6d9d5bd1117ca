"""Wires the safety chain: what is between the policy's action and the robot at each tick.

In this order: the `Interlock` (stop and pause), the `Guards` on the observation, the `Inference`
with its time limit, or the `ChunkPlayer` with that and the age of what it plays, and the `Guards`
on the action; where one of them withholds the action, the
`Fallback` decides the command; while a person commands, the `Guards` on the action alone decide,
and the `HandBack` leads to the policy's actions again. Each is a class of `dql_core.runtime`, and
`Controller` runs them.
Here they get their limits, from the contract and from the node's parameters.
docs/explanation/safety.md lists the hazards that each of them covers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dql_core.runtime.chunk import ChunkPlayer
from dql_core.runtime.controller import Controller
from dql_core.runtime.fallback import Fallback, FallbackRules, Interlock
from dql_core.runtime.guard import Guards
from dql_core.runtime.inference import Caller, Decider, Inference
from dql_core.runtime.takeover import HandBack
from dql_ros.contract import Contract
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.control.settings import LoopSettings

# After so many periods without an action, the fallback continues from where it would be by now.
_PATIENCE_PERIODS = 3


def make_decider(
    contract: Contract,
    settings: LoopSettings,
    loaded: LoadedPolicy,
    caller: Caller,
    limit_ns: int | None,
    steady_ns: Callable[[], int],
) -> Decider:
    """Return what asks the policy: at each tick, or for chunks of actions that it plays.

    Args:
        contract: The robot contract.
        settings: How the policy is run.
        loaded: The policy.
        caller: Makes its calls.
        limit_ns: How long one may take, in nanoseconds; ``None`` for ever.
        steady_ns: Clock that times them.

    Raises:
        ConfigError: If the settings do not fit its chunks.
    """
    executed = settings.executed(loaded)
    if loaded.policy.horizon == 1:
        return Inference(loaded.policy, caller, limit_ns, steady_ns)
    return ChunkPlayer(
        loaded.policy,
        caller,
        limit_ns,
        settings.period_ns(contract),
        executed,
        settings.pace,
        settings.send_after_ns(contract),
        steady_ns,
    )


def make_controller(
    contract: Contract,
    settings: LoopSettings,
    inference: Decider,
    loaded: LoadedPolicy,
    interlock: Interlock,
) -> Controller:
    """Return the controller that the contract and the settings ask for.

    Of the limits that the contract and the policy have, the tighter ones hold.

    Raises:
        ConfigError: If the safe command is beyond them.
    """
    spec = contract.policy_spec().within(loaded.policy.spec)
    limits = replace(
        settings.limits,
        max_inference_ns=inference.limit_ns,
        send_after_s=settings.send_after_s,
        max_steps=tuple(field.max_rate / contract.rate_hz for field in spec.action),
    )
    rules = contract.on_fault
    give_up_s = rules.deactivate_after_s
    fallback = FallbackRules(
        safe_command=contract.safe_command,
        hold_ns=settings.steady_ns(rules.hold_s),
        ramp_ns=settings.steady_ns(rules.ramp_s),
        give_up_after_ns=None if give_up_s is None else settings.steady_ns(give_up_s),
        patience_ns=_PATIENCE_PERIODS * settings.period_ns(contract),
    )
    guards = Guards(spec, loaded.statistics, limits)
    takeover = contract.takeover
    wants_ahead = any(stream.takes_chunks for stream in contract.action)
    return Controller(
        inference,
        guards,
        Fallback(fallback),
        interlock,
        smoothing=settings.action_smoothing,
        hand_back=HandBack(settings.steady_ns(0 if takeover is None else takeover.ramp_s)),
        ahead_ns=settings.period_ns(contract) if wants_ahead else 0,
        send_after_ns=settings.send_after_ns(contract),
    )
