"""A policy on a thread of its own, that may answer late or never."""

import threading
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.runtime.inference import Inference, SameThread, WorkerThread
from dql_core.runtime.policy import Committed, Decision
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec("arm", 20.0, (FieldSpec("x"),), (FieldSpec("u", "", -1.0, 1.0),))
LONG_NS = 20_000_000_000
WAIT_S = 20.0


class Gated:
    """A policy that answers with its observation once the gate is open."""

    spec = SPEC
    horizon = 1

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.asked: list[float] = []
        self.threads: set[int] = set()
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        self.threads.add(threading.get_ident())
        self.asked.append(float(observation[0]))
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        noise = rng.standard_normal(1).astype(np.float32)
        return Decision(observation + noise, np.zeros(1, np.float32), observation[None])


@pytest.fixture(name="thread")
def _thread() -> Iterator[WorkerThread]:
    thread = WorkerThread("inference")
    yield thread
    thread.stop()


def vector(value: float) -> NDArray[np.float32]:
    return np.array([value], dtype=np.float32)


def test_all_calls_are_made_on_one_thread_that_is_not_the_callers(thread: WorkerThread) -> None:
    policy = Gated()
    inference = Inference(policy, thread, LONG_NS)
    for value in range(3):
        assert inference.decide(vector(value)).decision is not None
    assert policy.threads == {thread.call(threading.get_ident)}
    assert threading.get_ident() not in policy.threads


def test_late_answer_is_dropped_and_nothing_is_asked_before_it_has_come(
    thread: WorkerThread,
) -> None:
    policy = Gated()
    policy.gate.clear()
    inference = Inference(policy, thread, 1_000_000)
    first = inference.decide(vector(1.0))
    assert first.decision is None
    assert first.took_ns >= 1_000_000
    assert policy.entered.wait(WAIT_S)
    second = inference.decide(vector(2.0))
    assert second.decision is None
    assert second.took_ns > first.took_ns
    policy.gate.set()
    patient = Inference(policy, thread, LONG_NS)
    while patient.decide(vector(3.0)).decision is None:
        pass
    assert policy.asked == [1.0, 3.0]


def test_same_seed_gives_the_same_decisions_on_any_thread(thread: WorkerThread) -> None:
    decided = []
    for caller in (thread, SameThread(), thread):
        inference = Inference(Gated(), caller, LONG_NS)
        inference.seed(7)
        answers = [inference.decide(vector(value)).decision for value in range(4)]
        decided.append([float(answer.action[0]) for answer in answers if answer is not None])
    assert decided[0] == decided[1] == decided[2]
    assert len(decided[0]) == 4


def test_policy_begins_an_episode_before_the_decision_that_follows_a_reset() -> None:
    policy = Gated()
    inference = Inference(policy, SameThread(), None)
    inference.decide(vector(0.0))
    assert policy.resets == 0
    inference.reset()
    inference.reset()
    assert policy.resets == 0
    inference.decide(vector(0.0))
    inference.decide(vector(0.0))
    assert policy.resets == 1


def test_what_a_call_raises_is_raised_where_it_was_asked_for(thread: WorkerThread) -> None:
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0)
    assert thread.call(lambda: 5) == 5


def test_what_a_late_call_raised_is_not_lost(thread: WorkerThread) -> None:
    gate = threading.Event()

    def fail() -> None:
        assert gate.wait(WAIT_S)
        raise ZeroDivisionError("the policy broke")

    with pytest.raises(TimeoutError, match="the call has not returned"):
        thread.call(fail, 0.001)
    with pytest.raises(TimeoutError, match="an earlier call has not returned"):
        thread.call(lambda: 5, 0.001)
    gate.set()
    with pytest.raises(ZeroDivisionError, match="the policy broke"):
        deque(iter(thread.is_busy, False), maxlen=0)
    assert thread.call(lambda: 5) == 5
