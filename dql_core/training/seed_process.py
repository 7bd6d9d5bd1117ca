"""One of several runs as a process of its own; what it tells is one JSON document a line.

    python -m dql_core.training.seed_process OUT RESUME < CONFIG

CONFIG is the resolved configuration as JSON; RESUME is 1 to go on with the run in OUT, else 0.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dql_core.config import TrainConfig
from dql_core.errors import DqlError, one_line
from dql_core.process import INTERRUPTED, log_lines
from dql_core.training.loop import train


class _JsonLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _send({"level": record.levelno, "text": record.getMessage()})


def main() -> None:
    """Run the process; exits with 2 on a user's mistake, 130 when interrupted."""
    try:
        config = TrainConfig.model_validate_json(sys.stdin.read())
        with log_lines(_JsonLines()):
            result = train(config, Path(sys.argv[1]), _report, resume=sys.argv[2] == "1")
        sys.exit(0 if result.finished else INTERRUPTED)
    except DqlError as error:
        sys.stderr.write(one_line(error) + "\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Nobody listens any more: the process that started this one is gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _report(step: int, metrics: Mapping[str, float]) -> None:
    _send({"step": step, "metrics": dict(metrics)})


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
