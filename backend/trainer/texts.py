"""The texts a picture is trained with: from its caption, by the rules of its dataset.

Text embeddings are computed before training, when it is not yet drawn how a caption will be shuffled.
So the draws are made ahead: a caption that can vary gets a number of variants, each a function of
the run's seed, the caption and the variant's number alone, and its samples take them in turn. There are as
many as the run will use, but no more than ``MOST_VARIANTS`` of one caption, and fewer (down to
``LEAST_VARIANTS``) where all captions' together would be more than ``ALL_VARIANTS``: T5's embedding of a
text takes 4 MiB. ai-toolkit, which keeps the encoders in memory for it, draws without end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from backend.trainer.captions import CaptionRules
from backend.trainer.rng import derive_seed

MOST_VARIANTS = 16
LEAST_VARIANTS = 4
ALL_VARIANTS = 2048


class Texts(NamedTuple):
    """A text that is trained, and the one for which the model is to stay as it was (None: no such).

    The same pair holds cache keys in place of the texts once they are encoded.
    """

    trained: str
    preserved: str | None = None


@dataclass(frozen=True, slots=True)
class Wording:
    """How the captions of a dataset become texts.

    Attributes:
        rules: From a caption to a text.
        trigger_alone: Leave captions out altogether (``unload_text_encoder``).
        preserved_class: Word that takes the trigger word's place in what is preserved
            (``diff_output_preservation``); None preserves nothing.
        preserve_blank: Whether the empty text is preserved (``blank_prompt_preservation``).
    """

    rules: CaptionRules
    trigger_alone: bool = False
    preserved_class: str | None = None
    preserve_blank: bool = False

    @property
    def varies(self) -> bool:
        """Whether a caption can become more than one text."""
        return self.rules.vary and not self.trigger_alone

    def plain(self, caption: str) -> Texts:
        """The caption's texts without any chance in them."""
        if self.trigger_alone:
            return self._with_preserved(self.rules.trigger or "" if self.rules.add_trigger else "")
        return self._with_preserved(self.rules.plain(caption))

    def dropped(self) -> Texts:
        """The texts of a picture whose caption is dropped."""
        return self._with_preserved(self.rules.dropped())

    def variants(self, caption: str, count: int, seed: int) -> tuple[Texts, ...]:
        """The first ``count`` variants of the caption's texts; more of them begin with the same."""
        return tuple(
            self._with_preserved(self.rules.varied(caption, derive_seed(seed, "variant", number, caption)))
            for number in range(count)
        )

    def _with_preserved(self, text: str) -> Texts:
        if self.preserve_blank:
            return Texts(text, "")
        if self.preserved_class is None:
            return Texts(text)
        trigger = self.rules.trigger
        if trigger:
            return Texts(text, text.replace(trigger, self.preserved_class))
        # Regularisation pictures have no trigger word: their texts are preserved as they are.
        return Texts(text, None if self.rules.add_trigger else text)


def most_variants(captions: int) -> int:
    """Variants of one caption at the most, where so many captions vary."""
    return max(LEAST_VARIANTS, min(MOST_VARIANTS, ALL_VARIANTS // max(1, captions)))
