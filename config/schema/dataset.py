"""``datasets[]``: folders of captioned pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, field_validator

from config.schema.base import Float, Int, Section, lower, path, unit, with_dot


class DatasetConfig(Section):
    """One folder of captioned pictures."""

    folder_path: str = Field(
        validation_alias=AliasChoices("folder_path", "dataset_path"),
        min_length=1,
        description="Folder with pictures (.jpg, .jpeg, .png, .webp), searched recursively, "
        "or a JSON file that maps picture paths to captions.",
        json_schema_extra=path("input"),
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
    token_dropout_rate: Float = Field(
        0.0, ge=0, le=1, description="Probability of leaving out each comma-separated part of a caption."
    )
    shuffle_tokens: bool = Field(
        False, description="Shuffle the comma-separated parts of a caption each time it is used."
    )
    keep_tokens: Int = Field(
        0, ge=0, description="How many parts at the start are neither shuffled nor left out."
    )
    random_triggers: list[str] = Field(
        default_factory=list, description="Words of which some are appended to a caption at random."
    )
    random_triggers_max: Int = Field(
        1, ge=1, description="How many of random_triggers are appended at the most."
    )
    resolution: list[int] = Field(
        default_factory=lambda: [512],
        description="Edge of the target area; a list trains every picture at each size.",
        json_schema_extra=unit("pixels"),
    )
    num_repeats: Int = Field(1, ge=1, description="How often each picture appears in an epoch.")
    buckets: bool = Field(
        True, description="Keep each picture's shape in a bucket; false crops all to squares."
    )
    bucket_algorithm: Annotated[Literal["new", "sdxl"], BeforeValidator(lower)] = Field(
        "new",
        description="How a bucket is chosen: new keeps the area in steps of 32, "
        "sdxl is the older list of shapes in steps of 64.",
    )
    random_crop: bool = Field(
        False, description="Crop at a random place, drawn anew every epoch, instead of the middle."
    )
    flip_x: bool = Field(False, description="Add a copy of each picture mirrored left to right.")
    flip_y: bool = Field(False, description="Add a copy of each picture mirrored top to bottom.")
    mask_path: str | None = Field(
        None,
        description="Folder of masks named like the pictures; white is learned, black is not.",
        json_schema_extra=path("input"),
    )
    alpha_mask: bool = Field(False, description="Use each picture's transparency as its mask.")
    invert_mask: bool = Field(False, description="Swap black and white in the masks.")
    mask_min_value: Float = Field(
        0.0, ge=0, le=1, description="Weight of the black parts of a mask, so that they count a little."
    )
    cache_text_embeddings: bool = Field(
        False, description="Accepted for ai-toolkit; text embeddings are always cached here."
    )
    is_reg: bool = Field(
        False, description="Regularisation pictures: used on even steps, without the trigger word."
    )
    prior_reg: bool = Field(
        False, description="Teach these pictures what the base model predicts, to keep what it knows."
    )
    network_weight: Float = Field(1.0, description="Strength of the adapter while these pictures train.")
    loss_multiplier: Float = Field(1.0, ge=0, description="Factor on the loss of these pictures.")

    @field_validator("caption_ext")
    @classmethod
    def _with_dot(cls, value: str) -> str:
        return with_dot(value)

    @field_validator("random_triggers", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return [] if value is None else [value] if isinstance(value, str) else value

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
