"""What the user asks of a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dql_ros.contract import Contract


@dataclass(frozen=True)
class Source:
    """What to convert.

    Attributes:
        contract: The robot's contract.
        bags: The bags in the order of the dataset's episodes.
        namespace: Namespace of the contract's relative topics in the bags.
        contract_name: The contract's file name, for the report.
        contract_text: Its text, which the dataset carries.
    """

    contract: Contract
    bags: Sequence[Path]
    namespace: str = "/"
    contract_name: str = ""
    contract_text: str = ""


@dataclass(frozen=True)
class Manner:
    """How to convert.

    Attributes:
        salvage: Read what can be read of damaged bags, and tell what is lost.
        keep_going: Leave out bags that do not convert, and tell of them.
        resume: Take over the bags that an interrupted conversion to the same folder has done.
        dry_run: Write nothing.
        workers: How many bags are converted at a time; ``None`` for one, on a Ray cluster for as
            many as it has room for.
        ray: Address of a Ray cluster to convert on, see `ray_cluster.outcomes`.
    """

    salvage: bool = False
    keep_going: bool = False
    resume: bool = False
    dry_run: bool = False
    workers: int | None = None
    ray: str | None = None
