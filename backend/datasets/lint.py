"""Finds what is wrong with a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backend.datasets.phash import Duplicates
from backend.datasets.problems import Problem
from backend.datasets.rules import captions, pictures, whole  # noqa: F401 - they register their rules
from backend.datasets.rules.registry import RULES, Dataset, LintOptions, Rule
from backend.datasets.scan import Item
from backend.trainer.captions import choose_trigger

if TYPE_CHECKING:
    from config.schema import DatasetConfig

__all__ = ["RULES", "LintOptions", "lint", "lint_item", "options_for"]


def options_for(dataset: DatasetConfig, trigger_word: str | None) -> LintOptions:
    """What a config has a dataset checked for.

    Args:
        dataset: One of the config's.
        trigger_word: The run's.
    """
    return LintOptions(
        resolutions=tuple(dataset.resolution),
        trigger=choose_trigger(dataset.trigger_word, None if dataset.is_reg else trigger_word),
        caption_ext=f".{dataset.caption_ext.lstrip('.')}",
        default_caption=dataset.default_caption,
    )


def lint(
    folder: Path,
    items: Sequence[Item],
    options: LintOptions | None = None,
    *,
    orphans: Iterable[Path] = (),
    duplicates: Duplicates | None = None,
    scanned: Iterable[Problem] = (),
) -> list[Problem]:
    """All problems of a dataset: the worst first, then by file and rule. Reads no file.

    Args:
        folder: The dataset's folder.
        items: Its pictures. What a picture's own rules say of excluded ones is left out.
        options: What it will be trained with.
        orphans: Captions without a picture, from the scan.
        duplicates: From :func:`backend.datasets.phash.find_duplicates`, if somebody looked.
        scanned: Problems of the scan itself, which join the list.
    """
    options = options or LintOptions()
    used = tuple(item for item in items if item.header is not None and not item.excluded)
    dataset = Dataset(folder.absolute(), tuple(items), used, tuple(orphans), duplicates or Duplicates())
    found = list(scanned)
    for item in items:
        found += lint_item(item, options)
    for rule in RULES.values():
        if rule.whole is not None:
            found += [_problem(rule, file, message) for file, message in rule.whole(dataset, options)]
    return sorted(found, key=lambda problem: (problem.severity.rank, problem.file, problem.rule))


def lint_item(item: Item, options: LintOptions) -> list[Problem]:
    """The problems of one picture by itself; none if it is excluded."""
    if item.excluded:
        return []
    return [
        _problem(rule, item.name, message)
        for rule in RULES.values()
        if rule.item is not None
        for message in rule.item(item, options)
    ]


def _problem(rule: Rule, file: str, message: str) -> Problem:
    return Problem(file, rule.id, rule.severity, message, rule.fix)
