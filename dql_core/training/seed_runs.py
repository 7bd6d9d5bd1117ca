"""The same training with several seeds, each in a process of its own, at most one a core."""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Sequence

from dql_core.training.interruption import Interruption
from dql_core.training.seed_child import Messages, SeedChild, SeedOutcome, SeedRun, Show

_POLL_S = 0.2


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def run_seeds(runs: Sequence[SeedRun], show: Show, at_once: int) -> list[SeedOutcome]:
    """Run all that are not finished; whatever happens, no process is left.

    Args:
        runs: What to run.
        show: Shows how they go.
        at_once: Processes at a time.

    Returns:
        How each ended, in the order of ``runs``. After a Ctrl-C those that run save a checkpoint
        and stop; they and those that did not begin are left out.
    """
    waiting = deque(run for run in runs if not run.finished)
    outcomes = {run.seed: SeedOutcome(run) for run in runs if run.finished}
    running: dict[int, SeedChild] = {}
    messages: Messages = queue.Queue()
    with Interruption() as interruption:
        try:
            while waiting or running:
                if interruption.requested:
                    waiting.clear()
                    for process in running.values():
                        process.interrupt()
                while waiting and len(running) < at_once:
                    run = waiting.popleft()
                    running[run.seed] = SeedChild(run, messages)
                try:
                    seed, line = messages.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if line is not None:
                    running[seed].take(line, show)
                elif outcome := running.pop(seed).outcome():
                    outcomes[seed] = outcome
        finally:
            for process in running.values():
                process.kill()
    return [outcomes[run.seed] for run in runs if run.seed in outcomes]
