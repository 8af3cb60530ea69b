"""How many pictures of a bucket one forward pass takes, by the tokens that they cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from backend.trainer.buckets import Bucket

_PATCH = 16  # pixels of a token's side


def tokens_of(bucket: Bucket, text_tokens: int) -> int:
    """Tokens that one picture of a bucket and its text make."""
    return (bucket.width // _PATCH) * (bucket.height // _PATCH) + text_tokens


def batch_sizes(
    buckets: Iterable[Bucket], batch_size: int, budget: int | Literal["auto"], text_tokens: int
) -> dict[Bucket, int]:
    """Pictures a batch for each bucket: ``batch_size``, or as many as the budget of tokens pays for.

    With FLUX.1's 512 text tokens a picture of 1024 x 1024 is 4,608 tokens, as are three of 512 x 512.

    Args:
        buckets: Shapes of the pictures that are trained.
        batch_size: The least.
        budget: Tokens of a batch; 0 for no budget; ``auto`` for what a batch of the largest bucket has.
        text_tokens: Tokens of a text.
    """
    tokens = {bucket: tokens_of(bucket, text_tokens) for bucket in buckets}
    if budget == "auto":
        budget = batch_size * max(tokens.values(), default=0)
    return {bucket: max(batch_size, budget // cost) for bucket, cost in tokens.items()}
