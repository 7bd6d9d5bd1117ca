"""What is found wrong with a contract."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Findings:
    """Sentences without the contract's name.

    Attributes:
        problems: What must be mended before anything can be converted.
        warnings: What converts, but perhaps not as it was meant.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: Findings, where: str = "") -> None:
        """Take over what was found elsewhere, with the place in front."""
        prefix = f"{where}: " if where else ""
        self.problems += [f"{prefix}{text}" for text in other.problems]
        self.warnings += [f"{prefix}{text}" for text in other.warnings]
