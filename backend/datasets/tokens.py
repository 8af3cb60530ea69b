"""How many tokens a caption has for FLUX.1's two text encoders, CLIP (77) and T5 (512).

With the model's tokenizers on this machine and the ``tokenizers`` library the count is exact. Else it is an
estimate: CLIP's words and marks, of which long ones count for several; T5's about 1.25 times as many. That is
within about a tenth for English captions; :attr:`Tokens.exact` says which it is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

CLIP_LIMIT, T5_LIMIT = 77, 512
_ENDS = 2  # CLIP's start and end
_T5_END = 1
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+")
_LONG = 8  # letters of a word that is likely one piece

Count = Callable[[str], int]


class Tokens(NamedTuple):
    """Tokens of a text, special ones included.

    Attributes:
        clip: For CLIP.
        t5: For T5.
        exact: Whether the model's own tokenizers counted.
        clip_limit: What CLIP reads; the rest is cut off.
        t5_limit: What T5 reads.
    """

    clip: int
    t5: int
    exact: bool
    clip_limit: int = CLIP_LIMIT
    t5_limit: int = T5_LIMIT

    @property
    def over_clip(self) -> bool:
        """Whether CLIP would not see the end. T5 carries most of FLUX.1's meaning, so that is mild."""
        return self.clip > self.clip_limit

    @property
    def over_t5(self) -> bool:
        """Whether T5 would not see the end: nothing of it is learned."""
        return self.t5 > self.t5_limit


class TokenCounter:
    """Counts tokens; remembers the last few thousand texts. Threads may share it.

    Args:
        clip: Exact count for CLIP; an estimate if None.
        t5: Exact count for T5; an estimate if None.
    """

    def __init__(self, clip: Count | None = None, t5: Count | None = None) -> None:
        self.exact = clip is not None and t5 is not None
        self._clip = clip or estimate_clip
        self._t5 = t5 or estimate_t5
        self.count = lru_cache(maxsize=8192)(self._count)

    @classmethod
    def find(cls, model: str | None = None) -> TokenCounter:
        """A counter with the tokenizers of ``model`` (a folder), else of FLUX.1 in the Hub's cache.

        Reads files only, takes up to a second; without them it estimates.
        """
        for folder in _folders(model):
            try:
                clip, t5 = _clip_of(folder / "tokenizer"), _t5_of(folder / "tokenizer_2")
            except Exception:  # no library, no files, or files of another kind: estimate
                continue
            return cls(clip, t5)
        return cls()

    def _count(self, text: str) -> Tokens:
        return Tokens(self._clip(text), self._t5(text), self.exact)


def estimate_clip(text: str) -> int:
    """About how many tokens CLIP's tokenizer makes of a text."""
    return _ENDS + sum(_pieces(piece) for piece in _PIECES.findall(text))


def estimate_t5(text: str) -> int:
    """About how many tokens T5's tokenizer makes of a text."""
    return _T5_END + round(1.25 * (estimate_clip(text) - _ENDS))


def _pieces(piece: str) -> int:
    if piece.isascii():
        return 1 if len(piece) <= _LONG else 1 + (len(piece) - 1) // _LONG
    return len(piece)  # other scripts: about one a letter


def _folders(model: str | None) -> Iterator[Path]:
    if model and Path(model).is_dir():
        yield Path(model)
    cache = os.environ.get("HF_HUB_CACHE") or os.path.join(
        os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface"), "hub"
    )
    names = [f"models--{model.replace('/', '--')}"] if model else []
    names += ["models--black-forest-labs--FLUX.1-dev", "models--black-forest-labs--FLUX.1-schnell"]
    for name in names:
        yield from sorted(Path(cache, name, "snapshots").glob("*"))


def _clip_of(folder: Path) -> Count:
    """CLIP's byte-level BPE from its vocabulary and merges (the rules of OpenAI's tokenizer)."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    if (folder / "tokenizer.json").is_file():
        return _of_json(folder / "tokenizer.json")
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    merges = [(first, second) for first, second in pairs]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return lambda text: _ENDS + len(tokenizer.encode(text, add_special_tokens=False).ids)


def _t5_of(folder: Path) -> Count:
    return _of_json(folder / "tokenizer.json")


def _of_json(path: Path) -> Count:
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text).ids)
