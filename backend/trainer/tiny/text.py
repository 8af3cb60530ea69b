"""The tiny FLUX's text encoders, with small vocabularies of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

CLIP_WIDTH, T5_WIDTH = 64, 128
CLIP_TOKENS = 77
T5_TOKENS = 64  # FLUX.1 reads 512; a short sequence keeps the demo quick

_HEADS, _LAYERS = 4, 2
_CLIP_MERGES = 600
_CLIP_MIXING = 6.0
_WORD_SCORE, _LETTER_SCORE = -6.0, -12.0
# With the captions' words, enough for short English prompts not to fall apart into letters.
_WORDS = """
a an the of in on at with and or to from is as by for near under over behind between left right
middle center top bottom up down photo picture image drawing painting sketch emblem logo icon style
portrait landscape close wide tall square small large big little tiny red orange yellow green blue
violet purple pink brown black white grey gray teal navy mint dark light bright pale soft flat round
circle triangle star line dot shape head face eye ear nose hand body man woman person child dog cat
fox bird fish horse tree flower grass leaf forest mountain river lake sea beach sky sun moon cloud
rain snow night day morning evening winter summer spring autumn city street house room window door
table chair book car train boat bridge road wall background foreground colour color shadow old new
one two three four five sitting standing running walking looking smiling wearing holding made
"""
_START, _END = "<|startoftext|>", "<|endoftext|>"


def build_clip(captions: Iterable[str]) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """A CLIP text encoder with random weights, and a byte-level BPE tokenizer that knows ``captions``."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    vocabulary, merges = _byte_pairs([*_WORDS.split(), *_words(captions)])
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CLIP_TOKENS)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=CLIP_WIDTH,
        intermediate_size=4 * CLIP_WIDTH,
        projection_dim=CLIP_WIDTH,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=vocabulary[_START],
        eos_token_id=vocabulary[_END],
        pad_token_id=vocabulary[_END],
    )
    model = CLIPTextModel(config).eval()
    # CLIP's initial weights are so small that all captions would look alike to the pooled output.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("token_embedding.weight"):
                parameter.normal_(0, 1)
            elif parameter.ndim == 2 and "position" not in name:
                # The pooled output is read at one token; what the others say has to reach it.
                gain = _CLIP_MIXING if "out_proj" in name else 1.5
                torch.nn.init.xavier_normal_(parameter, gain=gain)
    return tokenizer, model


def build_t5(captions: Iterable[str]) -> tuple[T5TokenizerFast, T5EncoderModel]:
    """A T5 encoder with random weights, and a unigram tokenizer of whole words and single letters."""
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    pieces = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, "▁": _LETTER_SCORE}
    for word in (*_WORDS.split(), *_words(captions)):
        pieces.setdefault("▁" + word, _WORD_SCORE)
        pieces.setdefault("▁" + word.capitalize(), _WORD_SCORE)
    for letter in map(chr, range(33, 127)):
        pieces.setdefault(letter, _LETTER_SCORE)
    tokenizer = T5TokenizerFast(vocab=list(pieces.items()), extra_ids=0, model_max_length=T5_TOKENS)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=T5_WIDTH,
        d_kv=T5_WIDTH // _HEADS,
        d_ff=2 * T5_WIDTH,
        num_layers=_LAYERS,
        num_heads=_HEADS,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        tie_word_embeddings=False,
        is_encoder_decoder=False,
        use_cache=False,
    )
    return tokenizer, T5EncoderModel(config).eval()


def _words(captions: Iterable[str]) -> list[str]:
    """The distinct words of the captions in order, without punctuation."""
    text = " ".join(captions).lower()
    letters = "".join(c if c.isalnum() else " " for c in text)
    return list(dict.fromkeys(letters.split()))


def _byte_pairs(words: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-pair encoding (Sennrich et al., 2016): a vocabulary in CLIP's order, and the merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    split = [[*word[:-1], word[-1] + "</w>"] for word in dict.fromkeys(words)]
    merges: list[tuple[str, str]] = []
    while len(merges) < _CLIP_MERGES:
        counts: dict[tuple[str, str], int] = {}
        for parts in split:
            for pair in itertools.pairwise(parts):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        split = [_merge(parts, best) for parts in split]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(m) for m in merges)]
    tokens = list(dict.fromkeys([*tokens, _START, _END]))
    return {token: index for index, token in enumerate(tokens)}, merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
