"""What all sections share: the base model and the types of values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict


def lower(value: Any) -> Any:
    """Names are compared without regard to case, as ai-toolkit does."""
    return value.strip().lower() if isinstance(value, str) else value


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would take true for 1
        raise ValueError(f"is {str(value).lower()}; it must be a number")
    return value


def never_if_off(value: Any) -> Any:
    """``null`` and ``false`` mean 0, which means never, in keys that count steps."""
    return 0 if value is None or value is False else value


def with_dot(value: str) -> str:
    """A file extension with one leading dot."""
    return "." + value.strip().lstrip(".")


def unit(name: str) -> dict[str, Any]:
    """Marks a field's unit, for its help."""
    return {"unit": name}


def path(kind: Literal["input", "model", "output"]) -> dict[str, Any]:
    """Marks a field as a path that is made absolute when a config is loaded.

    ``input``: looked for in the working folder, then beside the config. ``model``: the same, unless it
    is a Hub id. ``output``: in the working folder.
    """
    return {"path": kind}


DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "float": "float32",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float8": "float8",
    "fp8": "float8",
    "float8_e4m3fn": "float8",
}


def _dtype(value: Any) -> Any:
    return DTYPES.get(value.strip().lower(), value) if isinstance(value, str) else value


Int = Annotated[int, BeforeValidator(_not_bool)]
Float = Annotated[float, BeforeValidator(_not_bool)]
Dtype = Annotated[Literal["float32", "float16", "bfloat16"], BeforeValidator(_dtype)]
FileDtype = Annotated[Literal["float32", "float16", "bfloat16", "float8"], BeforeValidator(_dtype)]


class Section(BaseModel):
    """A section of the config; unknown keys are kept aside, :mod:`config.unknown` reports them."""

    model_config = ConfigDict(
        extra="ignore", populate_by_name=True, frozen=True, validate_default=False, allow_inf_nan=False
    )
