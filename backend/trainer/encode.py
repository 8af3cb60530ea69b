"""Filling the cache of texts: their embeddings by CLIP and T5.

Everything is computed one by one, so that an entry depends on its own content alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from backend.events import Phase
from backend.trainer.cache import Entry, TensorCache, content_key
from backend.trainer.control import StopControl
from backend.trainer.loading import BaseModel, TextEncoders, Tokenizers, free_memory
from backend.trainer.report import Reporter

_FORMAT = 1  # grows when what is cached changes for the same input


@dataclass(frozen=True)
class Progress:
    """Where encoding says how far it is, and hears that it should stop."""

    report: Reporter
    stop: StopControl


def cache_texts(
    texts: Iterable[str], base: BaseModel, cache: TensorCache, progress: Progress
) -> dict[str, str]:
    """Make sure that the embeddings of all texts are cached; the encoders are loaded only if one is not.

    Returns:
        Each text's cache key. An entry holds ``t5`` ``[tokens, width]`` and ``clip`` ``[width]``.

    Raises:
        TrainingError: The encoders cannot be loaded, or an entry cannot be stored.
        StopRequested: The run was asked to stop.
    """
    report, stop = progress.report, progress.stop
    tokenizers = base.tokenizers()
    identity = base.fingerprint("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    lengths = (tokenizers.clip_length, tokenizers.t5_length)
    keys = {text: content_key("text", _FORMAT, identity, base.dtype, *lengths, text) for text in texts}
    missing = [text for text, key in keys.items() if not _is_text(cache.find(key))]
    report.phase(Phase.CACHING_TEXT, len(keys) - len(missing), len(keys))
    if not missing:
        return keys
    encoders = base.text_encoders()
    for index, text in enumerate(missing, start=len(keys) - len(missing)):
        stop.check()
        _warn_if_cut(text, tokenizers, report)
        cache.store(keys[text], encode_text(text, encoders, tokenizers, masked=base.attn_masking))
        report.phase(Phase.CACHING_TEXT, index + 1, len(keys))
    del encoders
    free_memory(base.device)
    return keys


@torch.no_grad()
def encode_text(text: str, encoders: TextEncoders, tokenizers: Tokenizers, *, masked: bool = False) -> Entry:
    """T5's last hidden states of the padded text, and CLIP's pooled output, on the CPU.

    No attention mask: FLUX.1 was trained with the padding's embeddings in view. ``masked`` sets those
    to 0, for fine-tunes trained that way (ai-toolkit's ``attn_masking``).
    """
    t5_ids = _tokens(tokenizers.t5, text, tokenizers.t5_length).to(encoders.t5.device)
    clip_ids = _tokens(tokenizers.clip, text, tokenizers.clip_length).to(encoders.clip.device)
    hidden = encoders.t5(t5_ids, output_hidden_states=False)[0][0]
    if masked:
        hidden = hidden * _mask(tokenizers.t5, text, tokenizers.t5_length).to(hidden)[:, None]
    pooled = encoders.clip(clip_ids, output_hidden_states=False).pooler_output[0]
    return {"t5": hidden.cpu().contiguous(), "clip": pooled.cpu().contiguous()}


def _tokens(tokenizer: Any, text: str, length: int) -> torch.Tensor:
    encoded = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    ids: torch.Tensor = encoded.input_ids
    return ids


def _mask(tokenizer: Any, text: str, length: int) -> torch.Tensor:
    encoded = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    mask: torch.Tensor = encoded.attention_mask[0]
    return mask


def _warn_if_cut(text: str, tokenizers: Tokenizers, report: Reporter) -> None:
    if len(text) < tokenizers.t5_length:
        return  # a token has at least one character
    count = len(tokenizers.t5(text, verbose=False).input_ids)
    if count > tokenizers.t5_length:
        report.warning(
            f"a caption of {count} tokens is cut to {tokenizers.t5_length}: {text[:60]!r}...", "caption_cut"
        )


def _is_text(entry: Entry | None) -> bool:
    return entry is not None and entry.keys() >= {"t5", "clip"}
