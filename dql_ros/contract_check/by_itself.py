"""What is wrong with a contract without any recording: its keys, its types, its functions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rosbags.typesys import Stores, get_typestore

from dql_core.errors import ContractError
from dql_core.rewards.call import load_predicate, load_rewards
from dql_ros.contract import Contract, Predicate, contract_problems, load_contract
from dql_ros.contract_check.findings import Findings
from dql_ros.contract_types import type_problems


def check_file(path: Path) -> tuple[Contract | None, Findings]:
    """Read a contract.

    Returns:
        The contract, or ``None`` if it is not valid, and what is wrong with it.

    Raises:
        ContractError: If there is no such file, or it is no yaml mapping.
    """
    problems = contract_problems(path)
    if problems:
        return None, Findings(list(_causes(problems)))
    contract = load_contract(path)
    return contract, Findings(_function_problems(contract))


def check_standard_types(contract: Contract) -> Findings:
    """Compare a contract with ROS 2's standard types; others are only known with a bag."""
    found = Findings()
    for problem in type_problems(contract, get_typestore(Stores.ROS2_JAZZY)):
        if ": unknown type '" in problem:
            found.warnings.append(f"{problem}; a bag that defines it tells more")
        else:
            found.problems.append(problem)
    return found


def _causes(problems: list[str]) -> Iterator[str]:
    """Leave out what only follows from another problem, in pydantic's words."""
    for problem in dict.fromkeys(problems):
        key, _, rule = problem.partition(": ")
        if rule.startswith("The default factory uses validated data"):
            continue
        if not rule.startswith("Tuple should have at least 1 item"):
            yield problem
        elif not any(f"{key}." in other for other in problems):
            yield f"{key}: is empty; it needs an entry"


def _function_problems(contract: Contract) -> list[str]:
    problems = []
    for function in contract.reward_functions:
        try:
            load_rewards([function])
        except ContractError as cause:
            problems.append(str(cause))
    if isinstance(contract.episode.terminated, Predicate):
        try:
            load_predicate(contract.episode.terminated)
        except ContractError as cause:
            problems.append(str(cause))
    return problems
