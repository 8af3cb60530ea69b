"""The whole config: the process and its sections."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from config.schema.base import FileDtype, Int, Section, never_if_off, path, unit
from config.schema.dataset import DatasetConfig
from config.schema.modal import ModalConfig
from config.schema.model import ModelConfig
from config.schema.network import NetworkConfig
from config.schema.sample import SampleConfig
from config.schema.train import TrainConfig

_BAD_IN_NAMES = '/\\:*?"<>|'


class SaveConfig(Section):
    """Checkpoints."""

    dtype: FileDtype = Field("float16", description="Number format of the saved LoRA.")
    save_every: Int = Field(
        1000,
        ge=0,
        description="Save a checkpoint every so many steps; 0 saves only at the end.",
        json_schema_extra=unit("steps"),
    )
    max_step_saves_to_keep: Int = Field(
        5, ge=0, description="How many step checkpoints to keep; older ones are deleted, 0 keeps all."
    )
    keep_best: bool = Field(False, description="Also keep the checkpoint with the lowest validation loss.")
    push_to_hub: bool = Field(False, description="Upload the finished LoRA to the Hugging Face Hub.")
    hf_repo_id: str | None = Field(
        None,
        description="Repository for push_to_hub, such as me/my-lora; config.name in your account if absent.",
    )
    hf_private: bool = Field(False, description="Make that repository private.")

    @field_validator("save_every", "max_step_saves_to_keep", mode="before")
    @classmethod
    def _null_is_never(cls, value: Any) -> Any:
        return never_if_off(value)


class LoggingConfig(Section):
    """Trackers beside the app's own records."""

    log_every: Int | None = Field(
        100, ge=1, description="Steps between two values for the trackers; null is every step."
    )
    use_wandb: bool = Field(False, description="Also log to Weights & Biases (pip install wandb).")
    project_name: str = Field("ai-toolkit", description="Project there.")
    run_name: str | None = Field(None, description="Name of the run there; config.name if absent.")


class ProcessConfig(Section):
    """One training process."""

    type: Literal["sd_trainer", "diffusion_trainer", "ui_trainer"] = Field(
        "sd_trainer", description="Kind of process; all three names mean LoRA training."
    )
    training_folder: str | None = Field(
        None,
        description="Where the run's folder is made; the app's data folder if absent.",
        json_schema_extra=path("output"),
    )
    device: str | None = Field(None, description="cuda, cuda:1, mps or cpu; the best there is if absent.")
    trigger_word: str | None = Field(
        None, description="Word that calls the LoRA; added to captions that lack it."
    )
    training_seed: Int | None = Field(
        None, description="Seed of all randomness; drawn at the start if absent."
    )
    log_dir: str | None = Field(
        None,
        description="Folder for TensorBoard records (pip install tensorboard).",
        json_schema_extra=path("output"),
    )
    network: NetworkConfig = Field(default_factory=NetworkConfig, description="The adapter itself.")
    save: SaveConfig = Field(default_factory=SaveConfig, description="Checkpoints.")
    datasets: list[DatasetConfig] = Field(min_length=1, description="Folders of captioned pictures.")
    train: TrainConfig = Field(default_factory=TrainConfig, description="The optimisation.")
    model: ModelConfig = Field(description="The base model.")
    sample: SampleConfig = Field(default_factory=SampleConfig, description="Pictures drawn while training.")
    first_sample: SampleConfig | None = Field(
        None, description="Settings of the pictures drawn before the first step, if they differ."
    )
    logging: LoggingConfig = Field(default_factory=LoggingConfig, description="Trackers.")
    modal: ModalConfig = Field(default_factory=ModalConfig, description="Where it trains on Modal.")

    @property
    def trigger_alone(self) -> bool:
        """Whether pictures train without captions.

        As in ai-toolkit, ``unload_text_encoder`` means that only where the config does not cache text
        embeddings; with them it is the usual way of saying that the encoders can go.
        """
        train = self.train
        cached = train.cache_text_embeddings and "cache_text_embeddings" in train.model_fields_set
        return train.unload_text_encoder and not (
            cached or any(dataset.cache_text_embeddings for dataset in self.datasets)
        )


class RunConfig(Section):
    """A whole config: a name and the training process.

    The YAML form is ai-toolkit's ``{job, config: {name, process: [...]}, meta}``;
    :func:`config.load.load_config` turns that into this flat view.
    """

    name: str = Field(min_length=1, description="Name of the run and prefix of its files.")
    process: ProcessConfig = Field(description="The training process.")
    meta: dict[str, Any] = Field(default_factory=dict, description="Written into the LoRA file's metadata.")

    @field_validator("name")
    @classmethod
    def _a_file_name(cls, value: str) -> str:
        bad = sorted({c for c in value if c in _BAD_IN_NAMES or ord(c) < 32})
        if bad or value.strip(" .") != value or value in {".", ".."}:
            raise ValueError(
                'is used as a file name: no slashes, control characters or any of :*?"<>|, '
                "no space or dot at either end"
            )
        return value
