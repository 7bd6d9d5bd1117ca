"""What is known of the policies before they drive, by recordings and in shadow mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dql_core.data.dataset import LoadedDataset
from dql_core.errors import SimulationError
from dql_core.evaluation.offline.judging import Judgement, judge
from dql_core.evaluation.offline.shadow import ShadowFindings, compare_shadow
from dql_core.evaluation.offline.verdict import WORDS
from dql_core.evaluation.statistics import Estimate
from dql_core.export.candidates import Policies
from dql_core.training.validation import QUICK_FIT
from dql_ros.bag.reader import Bag
from dql_ros.contract import load_contract
from dql_ros.tools.shadow import ShadowSource, read_shadow


@dataclass(frozen=True)
class Foreseen:
    """What was known of a policy before it drove.

    Attributes:
        verdict: Beside the demonstrations, in words.
        difference: Of its value from theirs; ``None`` without a verdict.
        reason: Why there is no verdict; empty if there is one.
        shadow: How it compares with the operator, who drove while it looked on.
    """

    verdict: str
    difference: Estimate | None
    reason: str
    shadow: ShadowFindings

    @property
    def missed_ticks(self) -> str:
        """How many ticks its node missed meanwhile, as it counted; empty if it did not say."""
        return self.shadow.reported.get("missed ticks", "")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready summary."""
        return {
            "verdict": self.verdict,
            "difference": self.difference and self.difference.to_json(),
            "reason": self.reason,
            "shadow": {
                "episodes": self.shadow.agreement.episodes,
                "steps": self.shadow.agreement.steps,
                "distance_spreads": self.shadow.agreement.chosen,
                "far_share": self.shadow.far_share,
                "missed_ticks": self.missed_ticks,
            },
        }


def judge_bundles(
    bundles: Mapping[str, Path],
    learned: Path,
    held_out: LoadedDataset,
    seed: int,
    report: Callable[[str, float], None],
) -> Judgement:
    """Judge policies by demonstrations that they did not learn from.

    `dql judge` does the same by a longer fit.

    Args:
        bundles: By the policies' names.
        learned: The dataset that they learned from.
        held_out: The demonstrations.
        seed: Of all that is random.
        report: Told how far it is.

    Raises:
        DqlError: As `judge` does.
    """
    found = Policies(list(bundles.values()), dataset=str(learned))
    candidates = found.for_episodes(held_out)
    return judge(
        candidates,
        held_out,
        max(found.discounts),
        settings=QUICK_FIT,
        seed=seed,
        report=report,
    )


def look_at_shadow(contract: Path, bag: Path, node: str, seed: int) -> ShadowFindings:
    """Compare what a policy would have sent with what the operator sent.

    Args:
        contract: Path of the robot contract.
        bag: A recording of both.
        node: Full name of the policy's node.
        seed: Of what is drawn.

    Raises:
        BagError: If the recording has nothing of the policy.
        SimulationError: If it never acted while the operator drove.
    """
    rules = load_contract(contract)
    with Bag(bag) as opened:
        source = ShadowSource(rules, namespace="/", node=node, needs_rewards=False)
        recorded = read_shadow(opened, source)
    episodes = tuple(each.episode for each in recorded.episodes)
    driven = LoadedDataset(rules.policy_spec(), episodes, str(bag))
    found = compare_shadow(driven, recorded.episodes, recorded.reported, recorded.remarks, seed)
    if found is None:
        raise SimulationError(
            f"{node} sent nothing in shadow mode while somebody drove; check this machine with "
            f"'dql doctor'"
        )
    return found


def foreseen(judgement: Judgement, shadows: Mapping[str, ShadowFindings]) -> dict[str, Foreseen]:
    """Return what was known of each policy, by name; both have them in one order."""
    return {
        key: Foreseen(
            WORDS[judged.worth.verdict],
            judged.worth.difference,
            "; ".join(judged.worth.doubts),
            shadow,
        )
        for (key, shadow), judged in zip(shadows.items(), judgement.judged, strict=True)
    }
