"""The same surroundings for all tests, however they are started, and the longest first."""

import signal

import pytest

# nohup and some runners have it ignored; what the tests start would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# What takes longest begins first, so that no process works alone in the end; what waits for nodes
# alternates with what computes.
LONGEST = (
    "test_demo",
    "test_first_hour",
    "test_bandit",
    "test_policy_attacks",
    "test_convert_property",
    "test_convert_ray",
    "test_policy_start",
    "test_convert_workers",
    "test_convert_resume",
    "test_cli_closed_loop",
    "test_divergence",
    "test_blocked_log",
    "test_resume",
    "test_fuzz_live",
    "test_closed_loop_end",
    "test_learning",
    "test_policy_node",
    "test_convert_fuzz",
    "test_bag_live_topics",
    "test_exact_law",
    "test_cli_main",
    "test_seeds",
    "test_cli_end",
    "test_execution",
    "test_real_bag_conversion",
    "test_policy_faults",
    "test_clock",
    "test_sim_bridge_parity",
    "test_bag_fuzz",
    "test_model_loop",
    "test_closed_loop",
    "test_unwritable",
    "test_sim_bridge_control",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
