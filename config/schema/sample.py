"""``sample``: pictures drawn while training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from config.schema.base import Float, Int, Section, lower, never_if_off, unit


def _eight(value: int) -> int:
    return value // 8 * 8


class SampleItem(Section):
    """One picture to draw; what is not given here is the section's."""

    prompt: str = Field(description="Its prompt; [trigger] stands for the trigger word.")
    width: Int | None = Field(None, ge=64, le=4096, description="Width.", json_schema_extra=unit("pixels"))
    height: Int | None = Field(None, ge=64, le=4096, description="Height.", json_schema_extra=unit("pixels"))
    neg: str | None = Field(None, description="Accepted for ai-toolkit; FLUX.1 has no negative prompt.")
    seed: Int | None = Field(None, description="Its seed; -1 draws one.")
    guidance_scale: Float | None = Field(None, ge=0, description="Its guidance value.")
    sample_steps: Int | None = Field(None, ge=1, le=1000, description="Its denoising steps.")
    network_multiplier: Float | None = Field(None, description="Strength of the LoRA in it.")


class SampleConfig(Section):
    """Pictures drawn while training."""

    sampler: Annotated[Literal["flowmatch"], BeforeValidator(lower)] = Field(
        "flowmatch", description="Sampler; FLUX is a flow-matching model."
    )
    sample_every: Int = Field(
        100, ge=0, description="Sample every so many steps; 0 never.", json_schema_extra=unit("steps")
    )
    sample_start_step: Int = Field(
        0, ge=0, description="Do not sample before this step.", json_schema_extra=unit("steps")
    )
    width: Int = Field(512, ge=64, le=4096, description="Width.", json_schema_extra=unit("pixels"))
    height: Int = Field(512, ge=64, le=4096, description="Height.", json_schema_extra=unit("pixels"))
    prompts: list[str] = Field(
        default_factory=list,
        description="One picture a prompt; [trigger] stands for the trigger word. "
        "Flags at the end: --w --h --seed --cfg --steps --m.",
    )
    samples: list[SampleItem] = Field(
        default_factory=list, description="Prompts with settings of their own; wins over prompts."
    )
    neg: str | bool = Field("", description="Accepted for ai-toolkit; FLUX.1 has no negative prompt.")
    seed: Int = Field(0, description="Seed of the first picture; -1 draws one for each.")
    walk_seed: bool = Field(False, description="Use seed, seed + 1, ... for the prompts instead of one seed.")
    guidance_scale: Float = Field(7.0, ge=0, description="Guidance value fed to the model while sampling.")
    sample_steps: Int = Field(20, ge=1, le=1000, description="Denoising steps of a sample.")
    network_multiplier: Float = Field(1.0, description="Strength of the LoRA in the samples.")
    where: Annotated[Literal["container", "async"], BeforeValidator(lower)] = Field(
        "container",
        description="On Modal: container draws samples where the run trains, async in a second, cheaper "
        "container, so that training does not wait for them. No effect on this machine.",
    )
    format: Annotated[Literal["jpg", "png", "webp"], BeforeValidator(lower)] = Field(
        "jpg", description="File format of the samples."
    )

    @field_validator("width", "height")
    @classmethod
    def _divisible(cls, value: int) -> int:
        return _eight(value)

    @field_validator("sample_every", mode="before")
    @classmethod
    def _null_is_never(cls, value: Any) -> Any:
        return never_if_off(value)
