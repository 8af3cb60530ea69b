"""``network``: the adapter that is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field

from config.schema.base import Float, Int, Section, lower, path

_TYPES = {"locon": "lora", "lierla": "lora"}


def _type(value: Any) -> Any:
    value = lower(value)
    return _TYPES.get(value, value) if isinstance(value, str) else value


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
    rank_dropout: Float | None = Field(
        None, ge=0, lt=1, description="Probability of dropping each rank of an adapter in a step."
    )
    module_dropout: Float | None = Field(
        None, ge=0, lt=1, description="Probability of leaving out a whole adapter in a step."
    )


class NetworkConfig(Section):
    """The adapter itself."""

    type: Annotated[Literal["lora", "dora", "lokr"], BeforeValidator(_type)] = Field(
        "lora",
        description="Kind of adapter: lora works everywhere; dora and lokr are exported as a plain LoRA too.",
    )
    rank: Int = Field(
        4,
        ge=1,
        le=18432,
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
        None, ge=0, lt=1, description="Dropout on the rank-r activations while training."
    )
    transformer_only: bool = Field(True, description="Train only modules inside the transformer blocks.")
    lokr_full_rank: bool = Field(
        True, description="LoKr without a low-rank factor, as in ai-toolkit; rank is then ignored."
    )
    lokr_factor: Int = Field(
        -1, ge=-1, description="Size of LoKr's smaller Kronecker factor; -1 takes the most square one."
    )
    pretrained_lora_path: str | None = Field(
        None,
        description="LoRA file to start from; the step count starts at 0.",
        json_schema_extra=path("input"),
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
