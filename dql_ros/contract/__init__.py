"""The robot contract: one yaml file that the converter, the trainer and the nodes all obey."""

from dql_core.rewards.call import RewardFunction
from dql_ros.contract.contract import (
    Contract,
    FaultRules,
    contract_path,
    contract_problems,
    load_contract,
)
from dql_ros.contract.field import Element, FieldSelection
from dql_ros.contract.goals import Goals
from dql_ros.contract.outcomes import Label, Outcomes
from dql_ros.contract.stream import (
    ActionStream,
    ObservationStream,
    QualityOfService,
    Stream,
    Topic,
    parts,
    resolve_topic,
)
from dql_ros.contract.takeover import Takeover
from dql_ros.contract.task import (
    SIM_RESET,
    EpisodeRules,
    Equal,
    Equals,
    Event,
    FlagStream,
    Predicate,
    Reward,
    RewardTopic,
    SignalStream,
    equal_values,
    is_text,
    matches,
)
from dql_ros.contract.transforms import Frames, TransformStream

__all__ = [
    "SIM_RESET",
    "ActionStream",
    "Contract",
    "Element",
    "EpisodeRules",
    "Equal",
    "Equals",
    "Event",
    "FaultRules",
    "FieldSelection",
    "FlagStream",
    "Frames",
    "Goals",
    "Label",
    "ObservationStream",
    "Outcomes",
    "Predicate",
    "QualityOfService",
    "Reward",
    "RewardFunction",
    "RewardTopic",
    "SignalStream",
    "Stream",
    "Takeover",
    "Topic",
    "TransformStream",
    "contract_path",
    "contract_problems",
    "equal_values",
    "is_text",
    "load_contract",
    "matches",
    "parts",
    "resolve_topic",
]
