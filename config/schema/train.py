"""``train``: the optimisation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, field_validator

from config.schema.base import Dtype, Float, Int, Section, lower, never_if_off, path, unit

OPTIMIZERS = (
    "adamw", "adam", "adamw8bit", "adam8bit", "adamw8", "adam8", "lion", "lion8bit", "ademamix8bit",
    "adagrad", "adafactor", "prodigy", "prodigy8bit", "dadaptation", "dadaptadam", "dadaptlion",
    "automagic", "automagic2", "automagic3", "sgd",
)  # fmt: skip
TIMESTEP_TYPES = (
    "sigmoid", "linear", "weighted", "shift", "flux_shift", "lumina2_shift", "lognorm_blend",
    "one_step", "two_step", "four_step", "eight_step",
)  # fmt: skip

Optimizer = Annotated[
    Literal[
        "adamw", "adam", "adamw8bit", "adam8bit", "adamw8", "adam8", "lion", "lion8bit", "ademamix8bit",
        "adagrad", "adafactor", "prodigy", "prodigy8bit", "dadaptation", "dadaptadam", "dadaptlion",
        "automagic", "automagic2", "automagic3", "sgd",
    ],
    BeforeValidator(lower),
]  # fmt: skip
LrScheduler = Annotated[
    Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "step"],
    BeforeValidator(lower),
]
TimestepType = Annotated[
    Literal[
        "sigmoid", "linear", "weighted", "shift", "flux_shift", "lumina2_shift", "lognorm_blend",
        "one_step", "two_step", "four_step", "eight_step",
    ],
    BeforeValidator(lower),
]  # fmt: skip


class EmaConfig(Section):
    """Exponential moving average of the adapter's weights."""

    use_ema: bool = Field(False, description="Sample and save a moving average of the weights.")
    ema_decay: Float = Field(0.999, gt=0, lt=1, description="Share of the old average kept at each step.")


class ValidationItem(Section):
    """One held-out picture."""

    image_path: str = Field(min_length=1, description="The picture's file.", json_schema_extra=path("input"))
    prompt: str = Field("", description="Its caption; [trigger] stands for the trigger word.")


class ValidationConfig(Section):
    """Loss on held-out pictures with fixed noise: the number that shows overfitting."""

    validation_items: list[ValidationItem] = Field(
        default_factory=list, description="Held-out pictures with their captions."
    )
    resolution: Int = Field(
        512, ge=32, le=4096, description="Edge of their target area.", json_schema_extra=unit("pixels")
    )
    validate_every_n_steps: Int = Field(
        10, ge=1, description="Validate every so many steps.", json_schema_extra=unit("steps")
    )
    validation_sigmas: list[float] = Field(
        default_factory=lambda: [1.0, 0.75, 0.5, 0.25],
        min_length=1,
        description="Noise levels at which the loss is taken.",
    )

    @field_validator("validation_sigmas")
    @classmethod
    def _levels(cls, value: list[float]) -> list[float]:
        for sigma in value:
            if not 0 < sigma <= 1:
                raise ValueError(f"{sigma:g} is outside 0 to 1")
        return value


class EarlyStopConfig(Section):
    """Ending a run whose validation loss no longer falls."""

    patience: Int = Field(ge=1, description="Validations without a new best before the run stops.")
    min_delta: Float = Field(
        0.0, ge=0, description="How much lower the validation loss must be to count as a new best."
    )


class TrainConfig(Section):
    """The optimisation."""

    batch_size: Int = Field(1, ge=1, description="Pictures in one forward pass; all of one bucket.")
    token_budget: Annotated[Int, Field(ge=0)] | Literal["auto"] = Field(
        0,
        description="Fill batches of small pictures up to so many tokens (of 16 x 16 pixels, and 512 of the "
        "text): 4608 is one picture of 1024 x 1024 or three of 512 x 512; auto takes the largest picture's. "
        "An epoch then has fewer updates, each on more pictures, so fewer steps show the same; 0 is off.",
        json_schema_extra=unit("tokens"),
    )
    steps: Int = Field(
        1000, ge=1, description="Optimizer updates in the whole run.", json_schema_extra=unit("steps")
    )
    gpus: Annotated[Int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="GPUs of the machine that train together, each a batch of its own in every update, as if "
        "gradient_accumulation were so many times larger; auto is all that modal.gpu gives (H100:2 is two) "
        "and one on your own machine.",
        json_schema_extra=unit("GPUs"),
    )
    gradient_accumulation: Int = Field(
        1,
        ge=1,
        validation_alias=AliasChoices("gradient_accumulation", "gradient_accumulation_steps"),
        description="Batches whose gradients are averaged into one update.",
    )
    train_unet: bool = Field(True, description="Train the transformer; false trains nothing here.")
    train_text_encoder: bool = Field(
        False, description="Train the CLIP text encoder too; not supported for FLUX.1 here."
    )
    gradient_checkpointing: bool | Literal["auto"] = Field(
        True,
        description="Recompute activations in the backward pass: less memory, about a third more time; "
        "auto does it for as few blocks as memory allows.",
    )
    compile: bool | Literal["auto"] = Field(
        "auto", description="Compile the blocks before training: faster steps; auto does it on NVIDIA GPUs."
    )
    cuda_graphs: bool | Literal["auto"] = Field(
        "auto",
        description="Launch a compiled step's kernels by one call instead of one by one: faster steps on "
        "small pictures, the same numbers; auto does it on NVIDIA GPUs where memory allows.",
    )
    noise_scheduler: Annotated[Literal["flowmatch"], BeforeValidator(lower)] = Field(
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
    content_or_style: Annotated[Literal["balanced", "content", "style"], BeforeValidator(lower)] = Field(
        "balanced", description="Favour noisy levels (content) or clean ones (style)."
    )
    linear_timesteps: bool = Field(False, description="Uniform noise levels with a bell-shaped loss weight.")
    linear_timesteps2: bool = Field(False, description="The same with full weight on the clean half.")
    min_denoising_steps: Int = Field(
        0, ge=0, le=999, description="First of the 1000 noise levels drawn; 0 is the noisiest."
    )
    max_denoising_steps: Int = Field(
        999, ge=1, le=1000, description="Noise levels are drawn below this index; 1000 is the cleanest."
    )
    noise_offset: Float = Field(0.0, ge=0, description="Strength of an extra noise constant per channel.")
    loss_type: Annotated[Literal["mse", "mae", "pseudo_huber"], BeforeValidator(lower)] = Field(
        "mse", description="Error measure of the prediction."
    )
    max_loss: Float | None = Field(None, gt=0, description="Losses above this are cut to it.")
    cfg_scale: Float = Field(1.0, ge=0, description="Guidance value fed to the model while training.")
    bypass_guidance_embedding: bool = Field(
        False, description="Leave the guidance embedder out while training."
    )
    do_differential_guidance: bool = Field(
        False, description="Exaggerate the difference between prediction and target."
    )
    differential_guidance_scale: Float = Field(
        3.0, gt=0, description="By how much do_differential_guidance exaggerates."
    )
    diff_output_preservation: bool = Field(
        False,
        description="Also teach that the caption with the class word instead of the trigger word "
        "gives what the base model gives.",
    )
    diff_output_preservation_multiplier: Float = Field(
        1.0, ge=0, description="Weight of diff_output_preservation's loss."
    )
    diff_output_preservation_class: str = Field(
        "", description="Class word that takes the trigger word's place, such as person."
    )
    blank_prompt_preservation: bool = Field(
        False, description="Also teach that an empty prompt gives what the base model gives."
    )
    blank_prompt_preservation_multiplier: Float = Field(
        1.0, ge=0, description="Weight of blank_prompt_preservation's loss."
    )
    reg_weight: Float = Field(1.0, ge=0, description="Factor on the loss of regularisation pictures.")
    ema_config: EmaConfig = Field(default_factory=EmaConfig, description="Moving average of the weights.")
    cache_text_embeddings: bool = Field(
        True, description="Accepted for ai-toolkit; text embeddings are always cached here."
    )
    unload_text_encoder: bool = Field(
        False,
        description="Train every picture with the trigger word alone as its prompt, as ai-toolkit does.",
    )
    validation_config: ValidationConfig | None = Field(
        None, description="Loss on held-out pictures with fixed noise."
    )
    validation_split: Float = Field(
        0.0,
        ge=0,
        description="Share of the pictures held out for validation, or their number if 1 or more.",
    )
    early_stop: EarlyStopConfig | None = Field(
        None, description="End the run when the validation loss no longer falls."
    )
    attention_backend: str = Field(
        "native", min_length=1, description="diffusers' attention backend, such as native, flash or _flash_3."
    )
    start_step: Int | None = Field(None, ge=0, description="Count steps from here instead of the saved step.")
    skip_first_sample: bool = Field(False, description="Do not sample before the first step.")
    force_first_sample: bool = Field(False, description="Sample at the start of a resumed run too.")
    disable_sampling: bool = Field(False, description="Never sample.")

    @field_validator("validation_split", mode="before")
    @classmethod
    def _none_is_zero(cls, value: Any) -> Any:
        return never_if_off(value)
