"""`dql sros2`: the SROS 2 policy of a robot's nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dql_core.cli.terminal import print_line
from dql_core.files import write_text
from dql_ros.contract import contract_path, load_contract
from dql_ros.sros2 import policy_document


def sros2(
    contract: Annotated[Path, typer.Argument(help="Robot contract (yaml).")],
    out: Annotated[Path, typer.Argument(help="What to write, such as arm.policy.xml.")],
    namespace: Annotated[
        str, typer.Option("--namespace", help="Namespace of the nodes, as given to ros2 launch.")
    ] = "",
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", help="A further topic that the recorder records; repeatable."),
    ] = None,
) -> None:
    """Write the SROS 2 policy under which the nodes of a robot talk to each other only.

    Each node gets an enclave of its name with exactly the topics and services that it has under
    the contract; so does 'operator', who watches, calls services and may stop the robot, but
    cannot command it. 'ros2 security create_permission' makes permissions of it. An existing file
    is replaced.

    Example: dql sros2 config/contracts/scara.yaml scara.policy.xml
    """
    text = policy_document(load_contract(contract_path(contract)), namespace, topic or [])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    print_line(f"wrote {out}")
