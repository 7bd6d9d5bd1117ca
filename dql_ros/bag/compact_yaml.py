"""Yaml as rosbag2 and people read it."""

from __future__ import annotations

from typing import Any

import yaml


def dump(document: Any) -> str:
    """Return ``document`` as yaml."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes no anchors for values that occur twice: yaml-cpp and people read the file."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
