"""``model``: the base model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from config.schema.base import Int, Section, lower, path, unit

# Names of weight formats in ai-toolkit (quanto and torchao), and what they are here.
_QTYPES = {
    "qfloat8": "float8",
    "float8": "float8",
    "fp8": "float8",
    "qint8": "int8",
    "int8": "int8",
    "uint8": "int8",
    "qint4": "nf4",
    "int4": "nf4",
    "uint4": "nf4",
    "nf4": "nf4",
}


def _qtype(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name = value.strip().lower().partition("|")[0]
    return _QTYPES.get(name, value)


def _arch(value: Any) -> Any:
    value = lower(value)
    return value.partition(":")[0] if isinstance(value, str) else value


class QuantizeKwargs(Section):
    """Which layers are quantised."""

    exclude: list[str] = Field(
        default_factory=list, description="Patterns (with *) of modules that stay as they are."
    )
    include: list[str] = Field(
        default_factory=list, description="Patterns (with *) of the only modules that are quantised."
    )


class ModelConfig(Section):
    """The base model."""

    name_or_path: str = Field(
        min_length=1,
        description="Hugging Face id or folder of a FLUX.1 model in diffusers format, "
        "or a .safetensors file of its transformer.",
        json_schema_extra=path("model"),
    )
    is_flux: bool = Field(False, description="Accepted for ai-toolkit; only FLUX.1 is trained here.")
    arch: Annotated[Literal["flux", "flex1"] | None, BeforeValidator(_arch)] = Field(
        None, description="Architecture; here always FLUX.1."
    )
    quantize: bool = Field(
        False, description="Keep the frozen transformer's weights in a smaller format: less memory."
    )
    quantize_te: bool | None = Field(
        None, description="The same for the T5 text encoder; as quantize if absent."
    )
    qtype: Annotated[Literal["float8", "int8", "nf4"], BeforeValidator(_qtype)] = Field(
        "float8", description="The smaller format; ai-toolkit's qfloat8, qint8 and qint4 are understood."
    )
    compute: Literal["bf16", "fp8", "auto"] = Field(
        "bf16",
        description="What the frozen layers compute in: the model's own format, float8, or whichever is "
        "faster on the card.",
    )
    quantize_kwargs: QuantizeKwargs = Field(
        default_factory=QuantizeKwargs, description="Which layers are quantised."
    )
    offload: Annotated[Int, Field(ge=0)] | Literal["auto"] = Field(
        0,
        description="How many of the transformer's 57 blocks wait in the computer's memory and are copied to "
        "the GPU when their turn comes, for small cards; auto takes as few as fit. Switches "
        "gradient_checkpointing on and compiling off.",
        json_schema_extra=unit("blocks"),
    )
    low_vram: bool = Field(
        False, description="Load and quantise on the CPU, layer by layer, before anything goes to the GPU."
    )
    assistant_lora_path: str | None = Field(
        None,
        description="Adapter that lets FLUX.1-schnell be trained; off while sampling.",
        json_schema_extra=path("model"),
    )
    inference_lora_path: str | None = Field(
        None, description="LoRA that is added only while sampling.", json_schema_extra=path("model")
    )
    lora_path: str | None = Field(
        None,
        description="LoRA that is fused into the base model before training.",
        json_schema_extra=path("model"),
    )
    vae_path: str | None = Field(
        None, description="Autoencoder to use instead of the model's own.", json_schema_extra=path("model")
    )
    extras_name_or_path: str | None = Field(
        None,
        description="Hub id or folder that text encoders, tokenizers and autoencoder come from, "
        "for a model that is a transformer only.",
        json_schema_extra=path("model"),
    )
    attn_masking: bool = Field(
        False, description="Multiply T5's output by its attention mask, as some fine-tunes were trained."
    )
