"""The schema of a FLUX.1 LoRA training config, in the vocabulary of ai-toolkit.

One pydantic model a YAML section. A field's description, unit and bounds are the single source
for checking, for the editor's help and for the JSON Schema. Keys that ai-toolkit knows and that
have no effect here are listed in :mod:`config.compat`, not here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, field_validator


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would take true for 1
        raise ValueError(f"is {str(value).lower()}; it must be a number")
    return value


Int = Annotated[int, BeforeValidator(_not_bool)]
Float = Annotated[float, BeforeValidator(_not_bool)]


def _unit(unit: str) -> dict[str, Any]:
    return {"unit": unit}


_DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "float": "float32",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
}


def _dtype(value: Any) -> Any:
    return _DTYPES.get(value.strip().lower(), value) if isinstance(value, str) else value


Dtype = Annotated[Literal["float32", "float16", "bfloat16"], BeforeValidator(_dtype)]


class Section(BaseModel):
    """A section of the config; unknown keys are kept aside, :mod:`config.unknown` reports them."""

    model_config = ConfigDict(
        extra="ignore", populate_by_name=True, frozen=True, validate_default=False, allow_inf_nan=False
    )


class NetworkKwargs(Section):
    """Which layers get an adapter."""

    only_if_contains: list[str] = Field(
        default_factory=list,
        description="Train only modules whose dotted name contains one of these strings.",
    )
    ignore_if_contains: list[str] = Field(
        default_factory=list,
        description="Skip modules whose dotted name contains one of these; wins over only_if_contains.",
    )


class NetworkConfig(Section):
    """The LoRA itself."""

    type: Annotated[Literal["lora"], BeforeValidator(_lower)] = Field(
        "lora", description="Kind of adapter network."
    )
    rank: Int = Field(
        4,
        ge=1,
        le=3072,
        validation_alias=AliasChoices("rank", "linear"),
        description="Rank r of each adapter: more capacity, a larger file.",
    )
    alpha: Float | None = Field(
        None,
        gt=0,
        validation_alias=AliasChoices("alpha", "linear_alpha"),
        description="Adapter scale times rank; ignored for FLUX, as in ai-toolkit, unless respect_alpha.",
    )
    respect_alpha: bool = Field(
        False, description="Use alpha / rank as the adapter's scale instead of ai-toolkit's fixed 1."
    )
    dropout: Float | None = Field(
        None, ge=0, lt=1, description="Dropout on the adapter's input while training."
    )
    transformer_only: bool = Field(
        True,
        description="Train only modules inside the transformer blocks.",
    )
    network_kwargs: NetworkKwargs = Field(
        default_factory=NetworkKwargs, description="Which layers get an adapter."
    )

    @property
    def scale(self) -> float:
        """The factor on the adapter's output: 1, or alpha / rank with ``respect_alpha``."""
        if self.respect_alpha and self.alpha is not None:
            return self.alpha / self.rank
        return 1.0


class SaveConfig(Section):
    """Checkpoints."""

    dtype: Dtype = Field("float16", description="Number format of the saved LoRA.")
    save_every: Int = Field(
        1000,
        ge=0,
        description="Save a checkpoint every so many steps; 0 saves only at the end.",
        json_schema_extra=_unit("steps"),
    )
    max_step_saves_to_keep: Int = Field(
        5, ge=0, description="How many step checkpoints to keep; older ones are deleted, 0 keeps all."
    )

    @field_validator("save_every", mode="before")
    @classmethod
    def _null_is_never(cls, value: Any) -> Any:
        return 0 if value is None or value is False else value


class DatasetConfig(Section):
    """One folder of captioned pictures."""

    folder_path: str = Field(
        validation_alias=AliasChoices("folder_path", "dataset_path"),
        min_length=1,
        description="Folder with pictures (.jpg, .jpeg, .png, .webp), searched recursively.",
    )
    caption_ext: str = Field(
        ".txt",
        validation_alias=AliasChoices("caption_ext", "caption_type"),
        description="Extension of the caption file beside each picture.",
    )
    default_caption: str | None = Field(
        None, description="Caption of a picture whose caption file is missing or empty."
    )
    trigger_word: str | None = Field(
        None, description="Trigger word of this dataset; wins over the global trigger_word."
    )
    caption_dropout_rate: Float = Field(
        0.0, ge=0, le=1, description="Probability of training a picture without its caption."
    )
    resolution: list[int] = Field(
        default_factory=lambda: [512],
        description="Edge of the target area in pixels; a list trains every picture at each size.",
        json_schema_extra=_unit("pixels"),
    )
    num_repeats: Int = Field(1, ge=1, description="How often each picture appears in an epoch.")

    @field_validator("caption_ext")
    @classmethod
    def _with_dot(cls, value: str) -> str:
        return "." + value.strip().lstrip(".")

    @field_validator("resolution", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, int | str) else value

    @field_validator("resolution")
    @classmethod
    def _sane_sizes(cls, value: list[int]) -> list[int]:
        if not value:
            raise ValueError("needs at least one size")
        for size in value:
            if not 32 <= size <= 4096:
                raise ValueError(f"{size} is outside 32 to 4096 pixels")
        return value


class EmaConfig(Section):
    """Exponential moving average of the LoRA's weights."""

    use_ema: bool = Field(False, description="Sample and save a moving average of the weights.")
    ema_decay: Float = Field(0.999, gt=0, lt=1, description="Share of the old average kept at each step.")


Optimizer = Annotated[
    Literal["adamw", "adam", "adamw8bit", "adam8bit", "adagrad", "sgd"], BeforeValidator(_lower)
]
LrScheduler = Annotated[
    Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts"],
    BeforeValidator(_lower),
]
TimestepType = Annotated[
    Literal["sigmoid", "linear", "shift", "flux_shift", "lumina2_shift"], BeforeValidator(_lower)
]


class TrainConfig(Section):
    """The optimisation."""

    batch_size: Int = Field(1, ge=1, description="Pictures in one forward pass; all of one bucket.")
    steps: Int = Field(
        1000, ge=1, description="Optimizer updates in the whole run.", json_schema_extra=_unit("steps")
    )
    gradient_accumulation: Int = Field(
        1,
        ge=1,
        validation_alias=AliasChoices("gradient_accumulation", "gradient_accumulation_steps"),
        description="Batches whose gradients are averaged into one update.",
    )
    gradient_checkpointing: bool = Field(
        True, description="Recompute activations in the backward pass: less memory, about a third more time."
    )
    noise_scheduler: Annotated[Literal["flowmatch"], BeforeValidator(_lower)] = Field(
        "flowmatch", description="Noise schedule; FLUX is a flow-matching model."
    )
    optimizer: Optimizer = Field("adamw", description="Optimizer by its usual name.")
    optimizer_params: dict[str, Any] = Field(
        default_factory=dict, description="Arguments for the optimizer, such as weight_decay."
    )
    lr: Float = Field(1e-6, gt=0, le=10, description="Learning rate.")
    lr_scheduler: LrScheduler = Field("constant", description="How the learning rate changes over the run.")
    lr_scheduler_params: dict[str, Any] = Field(
        default_factory=dict, description="Arguments for the schedule, such as num_warmup_steps."
    )
    max_grad_norm: Float = Field(
        1.0, ge=0, description="Gradients are scaled down to this norm; 0 turns clipping off."
    )
    dtype: Dtype = Field(
        "float32", description="Number format of the frozen model; the LoRA's parameters stay float32."
    )
    timestep_type: TimestepType = Field(
        "sigmoid", description="Distribution of the noise levels that training draws."
    )
    cfg_scale: Float = Field(1.0, ge=0, description="Guidance value fed to the model while training.")
    noise_offset: Float = Field(0.0, ge=0, description="Strength of an extra noise constant per channel.")
    ema_config: EmaConfig = Field(default_factory=EmaConfig, description="Moving average of the weights.")
    skip_first_sample: bool = Field(False, description="Do not sample before the first step.")
    disable_sampling: bool = Field(False, description="Never sample.")


class ModelConfig(Section):
    """The base model."""

    name_or_path: str = Field(
        min_length=1, description="Hugging Face id or folder of a FLUX.1 model in diffusers format."
    )
    is_flux: bool = Field(False, description="Accepted for ai-toolkit; only FLUX.1 is trained here.")
    arch: Literal["flux", "flex1"] | None = Field(
        None, description="Architecture; only FLUX.1 is trained here."
    )


class SampleConfig(Section):
    """Pictures drawn while training."""

    sampler: Annotated[Literal["flowmatch"], BeforeValidator(_lower)] = Field(
        "flowmatch", description="Sampler; FLUX is a flow-matching model."
    )
    sample_every: Int = Field(
        100, ge=0, description="Sample every so many steps; 0 never.", json_schema_extra=_unit("steps")
    )
    width: Int = Field(512, ge=64, le=4096, description="Width.", json_schema_extra=_unit("pixels"))
    height: Int = Field(512, ge=64, le=4096, description="Height.", json_schema_extra=_unit("pixels"))
    prompts: list[str] = Field(
        default_factory=list, description="One picture a prompt; [trigger] stands for the trigger word."
    )
    seed: Int = Field(0, description="Seed of the first picture.")
    walk_seed: bool = Field(False, description="Use seed, seed + 1, ... for the prompts instead of one seed.")
    guidance_scale: Float = Field(7.0, ge=0, description="Guidance value fed to the model while sampling.")
    sample_steps: Int = Field(20, ge=1, le=1000, description="Denoising steps of a sample.")
    format: Annotated[Literal["jpg", "png", "webp"], BeforeValidator(_lower)] = Field(
        "jpg", description="File format of the samples."
    )

    @field_validator("width", "height")
    @classmethod
    def _divisible(cls, value: int) -> int:
        return value // 8 * 8

    @field_validator("sample_every", mode="before")
    @classmethod
    def _null_is_never(cls, value: Any) -> Any:
        return 0 if value is None or value is False else value


class ProcessConfig(Section):
    """One training process."""

    type: Literal["sd_trainer", "diffusion_trainer", "ui_trainer"] = Field(
        "sd_trainer", description="Kind of process; all three names mean LoRA training."
    )
    training_folder: str | None = Field(
        None, description="Where the run's folder is made; the app's data folder if absent."
    )
    device: str | None = Field(None, description="cuda, cuda:1, mps or cpu; the best there is if absent.")
    trigger_word: str | None = Field(
        None, description="Word that calls the LoRA; added to captions that lack it."
    )
    training_seed: Int | None = Field(
        None, description="Seed of all randomness; drawn at the start if absent."
    )
    network: NetworkConfig = Field(default_factory=NetworkConfig, description="The LoRA itself.")
    save: SaveConfig = Field(default_factory=SaveConfig, description="Checkpoints.")
    datasets: list[DatasetConfig] = Field(min_length=1, description="Folders of captioned pictures.")
    train: TrainConfig = Field(default_factory=TrainConfig, description="The optimisation.")
    model: ModelConfig = Field(description="The base model.")
    sample: SampleConfig = Field(default_factory=SampleConfig, description="Pictures drawn while training.")


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
        bad = sorted({c for c in value if c in '/\\:*?"<>|' or ord(c) < 32})
        if bad or value.strip(" .") != value or value in {".", ".."}:
            raise ValueError(
                'is used as a file name: no slashes, control characters or any of :*?"<>|, '
                "no space or dot at either end"
            )
        return value
