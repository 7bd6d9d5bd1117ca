"""A policy ready to run: on which device, and with as many candidates as its period allows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime

from dql_core.algo.backends import BackendName, named_backend, torch_has_cuda
from dql_core.errors import ConfigError, counted
from dql_core.normalize import Normalizer
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.onnx_backend import CUDA_PROVIDER
from dql_core.runtime.policy import Policy, Selection
from dql_core.spec import PolicySpec
from dql_ros.contract import Contract

TooSlow = Literal["refuse", "fewer_candidates", "warn"]
# The first calls are slow: memory is bound, kernels are chosen and, on CUDA, a graph is captured.
_FIRST_CALLS, _FIRST_CALLS_AT_LEAST, _FIRST_BUDGET_NS = 20, 5, 1_000_000_000
# Enough for a 99th percentile; a slow policy is not waited for longer than the budget.
_TIMED_CALLS = 200
_TIMED_AT_LEAST = 10
_BUDGET_NS = 500_000_000
# How often a policy is measured before it is called too slow, where other programs may be why.
_MEASUREMENTS = 3
# What NVIDIA's driver makes for its first device, on a PC and on a Jetson.
_DEVICE_FILES = (Path("/dev/nvidia0"), Path("/dev/nvgpu/igpu0"), Path("/dev/nvhost-gpu"))


@dataclass(frozen=True)
class LoadedPolicy:
    """What a node is given to run.

    Attributes:
        policy: Samples actions.
        statistics: Mean and spread of its training data's observations, if it has any.
        source: What it was loaded from, for the log.
        num_candidates: How many actions it samples to choose from.
        facts: What else a reader of the diagnostics wants to know of it, by name.
        reload: Loads it again with another number of candidates, if it can have another.
        execute: Actions of a chunk that are begun before the next is asked for, unless the
            settings say another number; ``None`` for `default_execute`.
    """

    policy: Policy
    statistics: Normalizer | None
    source: str
    num_candidates: int = 1
    facts: Mapping[str, str] = field(default_factory=dict)
    reload: Callable[[int], LoadedPolicy] | None = None
    execute: int | None = None


def load_bundle(
    bundle: Path,
    spec: PolicySpec,
    *,
    num_candidates: int | None = None,
    selection: Selection | None = None,
    warm_start: float = 0.0,
    bound_observations: bool = True,
    backend: BackendName = "auto",
    device: str = "auto",
) -> LoadedPolicy:
    """Load a bundle for a robot.

    Args:
        bundle: Its folder.
        spec: What the robot's contract says.
        num_candidates: As this and the next three for `load_policy`.
        selection: See there.
        warm_start: See there.
        bound_observations: See there.
        backend: What computes, see `named_backend`.
        device: Where; ``auto`` for what `find_device` finds.

    Raises:
        BundleError: If it is missing, damaged or foreign.
        ConfigError: If the back end or device is not there, or the policy cannot choose so.
        SpecMismatchError: If it was made for another contract.
    """
    if device == "auto":
        device = find_device(backend)
    graph_maker = named_backend(backend, device)

    def load(num_candidates: int | None) -> LoadedPolicy:
        policy = load_policy(
            bundle,
            num_candidates=num_candidates,
            selection=selection,
            warm_start=warm_start,
            bound_observations=bound_observations,
            spec=spec,
            backend=graph_maker,
        )
        choice = policy.choice
        return LoadedPolicy(
            policy,
            policy.manifest.data_statistics,
            f"bundle {bundle} ({counted(choice.num_candidates, 'candidate')}, selection "
            f"'{choice.selection}', on {device})",
            num_candidates=choice.num_candidates,
            facts={
                "back end": f"{type(graph_maker).__name__.removesuffix('Backend').lower()} on "
                f"{device}",
                "bundle": str(bundle),
                "bundle SHA-256": policy.manifest.sha256,
                "selection": choice.selection,
            },
            reload=load,
            execute=policy.manifest.execute,
        )

    return load(num_candidates)


@dataclass(frozen=True)
class InferenceTimes:
    """How long a policy takes for an action.

    Attributes:
        p50_ns: Median in nanoseconds.
        p99_ns: 99th percentile in nanoseconds.
        processor_p99_ns: 99th percentile of the processor time that its own thread took;
            ``None`` if unknown.
    """

    p50_ns: float
    p99_ns: float
    processor_p99_ns: float | None = None

    def __str__(self) -> str:
        return f"p50 {self.p50_ns / 1e6:.2f} ms, p99 {self.p99_ns / 1e6:.2f} ms"


def time_inference(
    policy: Policy,
    steady_ns: Callable[[], int] = time.perf_counter_ns,
    processor_ns: Callable[[], int] = time.thread_time_ns,
) -> InferenceTimes:
    """Run a policy until its slow first calls are over, then measure it."""
    observation = np.zeros(len(policy.spec.observation), dtype=np.float32)
    rng = np.random.default_rng(0)
    begun_ns = steady_ns()
    for call in range(_FIRST_CALLS):
        if call >= _FIRST_CALLS_AT_LEAST and steady_ns() - begun_ns > _FIRST_BUDGET_NS:
            break
        policy.act(observation, rng)
    times_ns: list[int] = []
    computed_ns: list[int] = []
    while len(times_ns) < _TIMED_CALLS:
        if len(times_ns) >= _TIMED_AT_LEAST and sum(times_ns) > _BUDGET_NS:
            break
        started_ns, before_ns = steady_ns(), processor_ns()
        policy.act(observation, rng)
        computed_ns.append(processor_ns() - before_ns)
        times_ns.append(steady_ns() - started_ns)
    policy.reset()
    p50_ns, p99_ns = np.percentile(times_ns, (50, 99))
    return InferenceTimes(float(p50_ns), float(p99_ns), float(np.percentile(computed_ns, 99)))


def fit_to_limit(
    loaded: LoadedPolicy,
    limit_ns: int | None,
    when_too_slow: TooSlow,
    warn: Callable[[str], None],
    measure: Callable[[Policy], InferenceTimes] = time_inference,
) -> tuple[LoadedPolicy, InferenceTimes]:
    """Return ``loaded`` if it is fast enough, or what is to be run in its place, and its times.

    Args:
        loaded: The policy as it was asked for.
        limit_ns: How long it may take for an action, in nanoseconds; ``None`` for any time.
        when_too_slow: ``refuse`` it, halve its number of candidates until it is fast enough, or
            run it all the same.
        warn: Called with a sentence where it is run otherwise than asked for.
        measure: Measures a policy, and thereby gets its slow first calls over.

    Raises:
        ConfigError: If it is refused, or too slow with a single candidate.
    """
    wanted = loaded
    times = _fair_times(loaded.policy, limit_ns, measure)
    while limit_ns is not None and times.p99_ns > limit_ns:
        slow = (
            f"inference with num_candidates {loaded.num_candidates} takes {times}; the limit is "
            f"{limit_ns / 1e6:.2f} ms{_load(times, limit_ns)}"
        )
        if when_too_slow == "warn":
            warn(f"{slow}: late actions will be dropped")
            break
        loaded = _faster(loaded, when_too_slow, slow)
        times = _fair_times(loaded.policy, limit_ns, measure)
    if loaded is not wanted:
        before, now = (each.facts.get("selection") for each in (wanted, loaded))
        warn(
            f"num_candidates lowered from {wanted.num_candidates} to {loaded.num_candidates}, "
            f"since more would take too long"
            + ("" if now == before else f"; selection '{now}', since '{before}' needs more")
        )
    return loaded, times


def beyond_delay(contract: Contract, loaded: LoadedPolicy, times: InferenceTimes) -> Iterator[str]:
    """Yield of which action streams the inference alone takes longer than their ``delay_s``.

    Chunks are decided while actions are sent that belong to their ticks, and delay none.
    """
    for stream in contract.action if loaded.policy.horizon == 1 else ():
        if 0 < stream.delay_ns < times.p99_ns:
            yield (
                f"inference alone takes {times}, and the contract's delay_s of '{stream.topic}' "
                f"is {stream.delay_s:g}: actions take effect later than the policy has learned; "
                f"raise delay_s, convert and train again, or sample fewer candidates"
            )


def _fair_times(
    policy: Policy, limit_ns: int | None, measure: Callable[[Policy], InferenceTimes]
) -> InferenceTimes:
    """Measure a policy, and again if other programs may have made it late; return the best."""
    best = measure(policy)
    for _ in range(_MEASUREMENTS - 1):
        if limit_ns is None or best.p99_ns <= limit_ns or not _is_delayed(best, limit_ns):
            break
        best = min(best, measure(policy), key=lambda times: times.p99_ns)
    return best


def _is_delayed(times: InferenceTimes, limit_ns: int) -> bool:
    """Whether a policy that is too slow would not be, if it had the processor for itself."""
    if times.processor_p99_ns is None:
        return times.p50_ns <= limit_ns
    return times.processor_p99_ns <= limit_ns


def _load(times: InferenceTimes, limit_ns: int) -> str:
    """Say that other programs are why a policy is too slow, if they seem to be."""
    if times.processor_p99_ns is None or not _is_delayed(times, limit_ns):
        return ""
    return (
        f" (the best of {_MEASUREMENTS} measurements; it computes for "
        f"{times.processor_p99_ns / 1e6:.2f} ms only, and waits for other programs or for its "
        f"device: the load average is {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, so end "
        f"other programs or allow the node a real-time priority)"
    )


def _faster(loaded: LoadedPolicy, when_too_slow: TooSlow, slow: str) -> LoadedPolicy:
    if when_too_slow == "refuse":
        raise ConfigError(
            f"{slow}: lower num_candidates, or set when_too_slow to 'fewer_candidates' or 'warn'"
        )
    if loaded.reload is None or loaded.num_candidates == 1:
        raise ConfigError(
            f"{slow}: it is too slow even with the fewest candidates; use a faster "
            f"machine or a lower rate, or set when_too_slow to 'warn'"
        )
    try:
        return loaded.reload(loaded.num_candidates // 2)
    except ConfigError as cause:
        raise ConfigError(f"{slow}; with fewer candidates {cause}") from cause


def find_device(backend: str) -> str:
    """Return ``cuda`` if there is a device and what ``backend`` needs to use it, else ``cpu``.

    Torch is imported only on a machine that has such a device.

    Args:
        backend: ``auto``, ``onnx`` or ``torch``.
    """
    if not any(path.exists() for path in _DEVICE_FILES):
        return "cpu"
    if backend in {"auto", "onnx"} and CUDA_PROVIDER in onnxruntime.get_available_providers():
        return "cuda"
    return "cuda" if backend in {"auto", "torch"} and torch_has_cuda() else "cpu"
