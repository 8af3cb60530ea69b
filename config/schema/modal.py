"""``modal``: where and how a run trains on Modal. This section is ours; ai-toolkit ignores it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from config.gpus import parse_gpu
from config.schema.base import Float, Int, Section, lower, unit
from config.volumes import BASE_VOLUME, RUNS_VOLUME

_VOLUME_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _listed(value: Any) -> Any:
    """A single name, or several in one string with commas, as a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


class ModalConfig(Section):
    """Training on Modal; has no effect on this machine."""

    gpu: Annotated[list[str], BeforeValidator(_listed)] = Field(
        default_factory=lambda: ["H100", "A100-80GB"],
        min_length=1,
        max_length=10,
        description="GPUs in the order in which they are tried: T4, L4, A10, L40S, A100-40GB, A100-80GB, "
        "RTX-PRO-6000, H100, H200, B200; H100! is never upgraded, L40S:2 is two of them.",
    )
    sampler_gpu: Annotated[list[str], BeforeValidator(_listed)] = Field(
        default_factory=lambda: ["L40S", "A100-80GB"],
        min_length=1,
        max_length=10,
        description="GPUs of the second container that draws samples where sample.where is async.",
    )
    budget: Float | None = Field(
        10.0,
        gt=0,
        description="The most that the run may cost over all its containers; it saves and stops there. "
        "null is no limit but that of time.",
        json_schema_extra=unit("dollars"),
    )
    hours: Float = Field(
        24.0,
        gt=0,
        le=168,
        description="The longest that the run may take from its first container on, waiting for another one "
        "included.",
        json_schema_extra=unit("hours"),
    )
    cpu: Float = Field(4.0, ge=0.125, le=64, description="CPU cores.", json_schema_extra=unit("cores"))
    memory: Int = Field(
        32, ge=1, le=512, description="Memory of the container.", json_schema_extra=unit("GiB")
    )
    volume: str = Field(
        RUNS_VOLUME, description="Volume for runs and datasets; made if there is none of that name."
    )
    base_volume: str = Field(
        BASE_VOLUME,
        description="Volume for base models from the Hub, shared by runs; made if there is none.",
    )
    environment: str | None = Field(None, description="Modal environment; the workspace's default if absent.")
    retries: Int = Field(
        3, ge=0, le=10, description="How often a container that failed for no fault of the run is replaced."
    )
    bring_home: Annotated[Literal["nothing", "samples", "checkpoints"], BeforeValidator(lower)] = Field(
        "samples",
        description="What is downloaded by itself while somebody watches the run: nothing, samples, or "
        "checkpoints and samples. Anything else is one key away.",
    )

    @field_validator("gpu", "sampler_gpu")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        return [str(parse_gpu(text)) for text in value]

    @field_validator("volume", "base_volume")
    @classmethod
    def _a_volume_name(cls, value: str) -> str:
        if not _VOLUME_NAME.fullmatch(value):
            raise ValueError("must be 1 to 64 letters, digits, dots, dashes or underscores")
        return value
