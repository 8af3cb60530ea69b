"""The schema of a FLUX.1 LoRA training config, in the vocabulary of ai-toolkit.

One pydantic model a YAML section. A field's description, unit and bounds are the single source
for checking, for the editor's help, for ``explain`` and for the JSON Schema. Keys that ai-toolkit
knows and that have no effect here are listed in :mod:`config.compat`, not here.
"""

from config.schema.base import Section
from config.schema.dataset import DatasetConfig
from config.schema.modal import ModalConfig
from config.schema.model import ModelConfig, QuantizeKwargs
from config.schema.network import NetworkConfig, NetworkKwargs
from config.schema.run import LoggingConfig, ProcessConfig, RunConfig, SaveConfig
from config.schema.sample import SampleConfig, SampleItem
from config.schema.train import EarlyStopConfig, EmaConfig, TrainConfig, ValidationConfig, ValidationItem

__all__ = [
    "DatasetConfig",
    "EarlyStopConfig",
    "EmaConfig",
    "LoggingConfig",
    "ModalConfig",
    "ModelConfig",
    "NetworkConfig",
    "NetworkKwargs",
    "ProcessConfig",
    "QuantizeKwargs",
    "RunConfig",
    "SampleConfig",
    "SampleItem",
    "SaveConfig",
    "Section",
    "TrainConfig",
    "ValidationConfig",
    "ValidationItem",
]
