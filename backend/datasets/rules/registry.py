"""The rules by their ids, and what they look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from backend.datasets.phash import Duplicates
from backend.datasets.problems import Severity
from backend.datasets.scan import Item
from backend.datasets.tokens import TokenCounter


@dataclass(frozen=True, slots=True)
class LintOptions:
    """What a dataset will be trained with.

    Attributes:
        resolutions: ``datasets.resolution``.
        trigger: The trigger word, if there is one.
        caption_ext: Extension of caption files.
        default_caption: ``datasets.default_caption``.
        tokens: Counts tokens; an estimate if None.
    """

    resolutions: tuple[int, ...] = (512, 768, 1024)
    trigger: str | None = None
    caption_ext: str = ".txt"
    default_caption: str | None = None
    tokens: TokenCounter = field(default_factory=TokenCounter)


@dataclass(frozen=True, slots=True)
class Dataset:
    """What rules about the whole look at.

    Attributes:
        folder: The dataset's folder.
        items: Its pictures.
        used: Those that are trained on: readable and not excluded.
        orphans: Captions without a picture.
        duplicates: Pictures that are the same, if somebody looked.
    """

    folder: Path
    items: tuple[Item, ...]
    used: tuple[Item, ...]
    orphans: tuple[Path, ...] = ()
    duplicates: Duplicates = field(default_factory=Duplicates)


ItemCheck = Callable[[Item, LintOptions], Iterable[str]]
WholeCheck = Callable[[Dataset, LintOptions], Iterable[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        id: Its name.
        severity: How much what it finds matters.
        title: What it looks for, a few words.
        fix: What mending does; None where there is no mending by itself.
        safe: Whether ``--fix`` mends it without asking: nothing is lost, and training sees no other words.
        item: The check of one picture; yields messages.
        whole: The check of the whole; yields files (empty for the folder) and messages.
    """

    id: str
    severity: Severity
    title: str
    fix: str | None = None
    safe: bool = False
    item: ItemCheck | None = None
    whole: WholeCheck | None = None


RULES: dict[str, Rule] = {}


def item_rule(
    id: str,  # noqa: A002
    severity: Severity,
    title: str,
    *,
    fix: str | None = None,
    safe: bool = False,
) -> Callable[[ItemCheck], ItemCheck]:
    """Make a function the rule ``id`` about single pictures."""

    def add(check: ItemCheck) -> ItemCheck:
        RULES[id] = Rule(id, severity, title, fix, safe, item=check)
        return check

    return add


def whole_rule(
    id: str,  # noqa: A002
    severity: Severity,
    title: str,
    *,
    fix: str | None = None,
    safe: bool = False,
) -> Callable[[WholeCheck], WholeCheck]:
    """Make a function the rule ``id`` about the whole dataset."""

    def add(check: WholeCheck) -> WholeCheck:
        RULES[id] = Rule(id, severity, title, fix, safe, whole=check)
        return check

    return add


def relative(dataset: Dataset, path: Path) -> str:
    """A path as problems name it."""
    return path.relative_to(dataset.folder).as_posix() if path.is_relative_to(dataset.folder) else str(path)


def plural(count: int, word: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{count} {word}{'s' * (count != 1)}"
