"""What can be wrong with captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from backend.datasets.captions import OTHER, tags, trained
from backend.datasets.problems import Severity
from backend.datasets.rules.registry import Dataset, LintOptions, item_rule, plural, relative, whole_rule
from backend.datasets.scan import Item

_FEW = 4  # pictures with which it is no wonder that captions have words in common
_WORDS = 5  # words that are more than a manner of speaking


@item_rule(
    "caption-missing",
    Severity.WARNING,
    "a picture without a caption",
    fix="write an empty caption to fill in",
)
def missing(item: Item, options: LintOptions) -> Iterator[str]:
    """No caption file, and no default caption. A picture that cannot be read needs none."""
    if item.header is None or item.caption is not None or item.caption_problem is not None:
        return
    if not options.default_caption:
        instead = "the trigger word alone" if options.trigger else "an empty text"
        yield f"has no caption ({item.caption_path.name}); it trains with {instead}"


@item_rule("caption-empty", Severity.WARNING, "a caption without words")
def empty(item: Item, options: LintOptions) -> Iterator[str]:
    """A caption file without words."""
    if item.caption is not None and not item.caption.strip() and not options.default_caption:
        instead = "the trigger word alone" if options.trigger else "an empty text"
        yield f"has an empty caption; it trains with {instead}"


@whole_rule(
    "caption-orphan", Severity.WARNING, "a caption without a picture", fix="move the caption to the trash"
)
def orphan(dataset: Dataset, _: LintOptions) -> Iterator[tuple[str, str]]:
    """A caption file without a picture of its name."""
    for path in dataset.orphans:
        yield relative(dataset, path), "belongs to no picture: there is none of this name"


@item_rule(
    "caption-not-utf8",
    Severity.ERROR,
    "a caption that is not UTF-8",
    fix="read it as Windows-1252 and save it as UTF-8",
)
def not_utf8(item: Item, options: LintOptions) -> Iterator[str]:
    """A caption in another encoding; the trainer leaves its picture out."""
    if item.caption_problem is not None and item.caption_encoding == OTHER:
        yield f"has a caption that {item.caption_problem}; {_instead(options)}"


@item_rule("caption-unreadable", Severity.ERROR, "a caption that cannot be read")
def unreadable(item: Item, options: LintOptions) -> Iterator[str]:
    """No permission, a folder of that name; the trainer leaves its picture out."""
    if item.caption_problem is not None and item.caption_encoding != OTHER:
        yield f"has a caption that {item.caption_problem}; {_instead(options)}"


def _instead(options: LintOptions) -> str:
    return "its picture is left out" if options.default_caption is None else "default_caption is used"


@item_rule(
    "caption-bom",
    Severity.INFO,
    "a caption with a byte order mark, or in UTF-16",
    fix="save it as plain UTF-8",
    safe=True,
)
def bom(item: Item, _: LintOptions) -> Iterator[str]:
    """A byte order mark: this trainer reads it, others train on it."""
    if item.caption_encoding == "utf-8-sig":
        yield "has a caption with a byte order mark, which other trainers take for text"
    elif item.caption_encoding == "utf-16":
        yield "has a caption in UTF-16, which other trainers cannot read"


@item_rule("caption-over-t5", Severity.WARNING, "a caption longer than T5 reads")
def over_t5(item: Item, options: LintOptions) -> Iterator[str]:
    """More tokens than T5 reads; the rest is never seen."""
    if not item.caption or len(item.caption) <= 256:  # a token is a byte at least, mostly four
        return
    tokens = options.tokens.count(trained(item.caption, options.trigger))
    if tokens.over_t5:
        about = "" if tokens.exact else "about "
        yield f"has a caption of {about}{tokens.t5} tokens, and T5 reads {tokens.t5_limit}: its end is lost"


@item_rule("caption-over-clip", Severity.INFO, "a caption longer than CLIP reads")
def over_clip(item: Item, options: LintOptions) -> Iterator[str]:
    """More tokens than CLIP reads; T5 still sees the rest."""
    if not item.caption or len(item.caption) <= 75:
        return
    tokens = options.tokens.count(trained(item.caption, options.trigger))
    if tokens.over_clip and not tokens.over_t5:
        about = "" if tokens.exact else "about "
        yield (
            f"has a caption of {about}{tokens.clip} tokens for CLIP, which reads {tokens.clip_limit}; "
            "T5 sees all of it"
        )


@item_rule(
    "trigger-missing", Severity.INFO, "a caption without the trigger word", fix="put the trigger word in"
)
def trigger(item: Item, options: LintOptions) -> Iterator[str]:
    """The trigger word is not where the author put it; the trainer prepends it."""
    if not options.trigger or not item.caption or not item.caption.strip():
        return
    text = item.caption
    if options.trigger not in text and "[trigger]" not in text and "[name]" not in text:
        yield f"has a caption without the trigger word {options.trigger!r}; training puts it in front"


@whole_rule("caption-repeated", Severity.WARNING, "the same text in all captions")
def repeated(dataset: Dataset, options: LintOptions) -> Iterator[tuple[str, str]]:
    """All captions alike, or a phrase or tag in all of them: it merges with the trigger word."""
    texts = [item.caption.strip() for item in dataset.used if item.caption and item.caption.strip()]
    if len(texts) < _FEW:
        return
    if len(set(texts)) == 1:
        if texts[0] not in (options.trigger, "[trigger]", "[name]"):
            yield "", f"all {len(texts)} captions are the same: {_short(texts[0])!r}"
        return
    own = {options.trigger or "", "[trigger]", "[name]"}
    counts = Counter(tag for text in texts for tag in set(tags(text)) - own)
    shared = sorted(tag for tag, count in counts.items() if count == len(texts))
    if shared:
        yield "", f"{_named(shared)} in all {len(texts)} captions, so it is learned as part of the subject"
        return
    phrase = _common_start(texts)
    if phrase:
        yield "", f"all {len(texts)} captions begin with {_short(phrase)!r}"


def _named(shared: list[str]) -> str:
    first = f"the tag {_short(shared[0])!r}"
    return f"{first} stands" if len(shared) == 1 else f"{first} and {plural(len(shared) - 1, 'other')} stand"


def _common_start(texts: list[str]) -> str:
    split = [text.split() for text in texts]
    words: list[str] = []
    for column in zip(*split, strict=False):
        if len(set(column)) > 1:
            break
        words.append(column[0])
    return " ".join(words) if len(words) >= _WORDS else ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
