"""The robot contract: one yaml file that the converter, the trainer and the nodes all obey."""

from dql_core.rewards.named import RewardFunction
from dql_ros.contract.contract import Contract, FaultRules, contract_problems, load_contract
from dql_ros.contract.episode import EpisodeRules, Predicate
from dql_ros.contract.field import Element, FieldSelection
from dql_ros.contract.reward import Reward
from dql_ros.contract.signal import (
    Equal,
    Event,
    FlagStream,
    RewardTopic,
    SignalStream,
    matches,
)
from dql_ros.contract.stream import ActionStream, ObservationStream, Stream
from dql_ros.contract.topic import QualityOfService, Topic, resolve_topic

__all__ = [
    "ActionStream",
    "Contract",
    "Element",
    "EpisodeRules",
    "Equal",
    "Event",
    "FaultRules",
    "FieldSelection",
    "FlagStream",
    "ObservationStream",
    "Predicate",
    "QualityOfService",
    "Reward",
    "RewardFunction",
    "RewardTopic",
    "SignalStream",
    "Stream",
    "Topic",
    "contract_problems",
    "load_contract",
    "matches",
    "resolve_topic",
]
