"""Mends what rules found, where there is a way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from backend.datasets import captions
from backend.datasets.edits import CreateMissing, Edit, PutTrigger, plan
from backend.datasets.errors import DatasetError, reason
from backend.datasets.journal import Journal, JournalError
from backend.datasets.lint import RULES, LintOptions
from backend.datasets.prepare import PrepareOptions, prepare, unprepare
from backend.datasets.problems import Problem
from backend.datasets.rules.pictures import CONVERTED, SUFFIXES
from backend.datasets.scan import Item
from backend.datasets.sidecar import Marks, change_many, marks_of, set_many
from backend.datasets.trash import Trash
from backend.files import atomic_file
from backend.trainer.captions import CaptionError, read_caption

_RENAMING = {"picture-extension", *CONVERTED}
_GONE = "is not in the dataset any more"


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of mending a problem.

    Attributes:
        problem: The problem.
        done: What was done, a clause about the file; empty if nothing was.
        failure: Why it was not.
        back: Takes it back, and what was done together with it; raises DatasetError or OSError, and changes
            nothing, where others changed the file since.
    """

    problem: Problem
    done: str = ""
    failure: str | None = None
    back: Callable[[], object] | None = field(default=None, compare=False, repr=False)


def safe(problems: Iterable[Problem]) -> list[Problem]:
    """The problems that can be mended without asking: nothing is lost, and no words change."""
    return [problem for problem in problems if problem.rule in RULES and RULES[problem.rule].safe]


def mend(
    problems: Iterable[Problem],
    folder: Path,
    items: Sequence[Item],
    options: LintOptions | None = None,
    *,
    trash: Trash | None = None,
    journal: Journal | None = None,
) -> list[Mended]:
    """Mend problems; what cannot be mended is reported, and the rest goes on.

    Scan again afterwards: names and captions change.

    Args:
        problems: Those to mend; ones without a fix are passed over.
        folder: The dataset's folder.
        items: Its pictures.
        options: As for lint.
        trash: Where deleted files go; the user's if None.
        journal: Where changes to captions are kept for undo; the user's if None.
    """
    work = _Mender(folder.absolute(), items, options or LintOptions(), trash or Trash(), journal or Journal())
    by_rule: dict[str, list[Problem]] = {}
    for problem in problems:
        by_rule.setdefault(problem.rule, []).append(problem)
    # What changes the name that other problems use comes last.
    rules = sorted(by_rule, key=lambda rule: rule in _RENAMING)
    return [result for rule in rules for result in work.mend(rule, by_rule[rule])]


Done = tuple[str, Callable[[], object]]  # what was done, and what takes it back


class _Mender:
    """Mends the problems of one rule at a time.

    What only changes captions is one edit however many there are, and what only changes marks is written
    once a folder: so all of it can be taken back together, and thousands take seconds.
    """

    def __init__(
        self, folder: Path, items: Sequence[Item], options: LintOptions, trash: Trash, journal: Journal
    ) -> None:
        self._folder = folder
        self._items = {item.name: item for item in items}
        self._trash, self._journal = trash, journal
        self._edits: dict[str, tuple[str, Edit]] = {
            "caption-missing": ("has an empty caption to fill in", CreateMissing()),
            "trigger-missing": ("has the trigger word in its caption", PutTrigger(options.trigger or "")),
        }
        self._marks: dict[str, tuple[str, Callable[[Marks], Marks]]] = {
            "duplicate-exact": ("is excluded from training", partial(replace, excluded=True)),
            "crop-outside": ("has no crop any more", partial(replace, crop=None)),
        }
        self._ways: dict[str, Callable[[Problem], Done]] = {
            "caption-bom": self._utf8,
            "caption-not-utf8": self._reencode,
            "caption-orphan": self._discard,
            "picture-extension": self._rename,
            **dict.fromkeys(CONVERTED, self._convert),
        }

    def mend(self, rule: str, problems: list[Problem]) -> list[Mended]:
        """What came of each; nothing if there is no way."""
        if rule in self._ways:
            return [self._one(self._ways[rule], problem) for problem in problems]
        if rule not in self._edits and rule not in self._marks:
            return []
        known = [(problem, self._items[problem.file]) for problem in problems if problem.file in self._items]
        gone = [Mended(it, failure=_GONE) for it in problems if it.file not in self._items]
        if rule in self._edits:
            return gone + self._edit(*self._edits[rule], known)
        return gone + self._mark(*self._marks[rule], known)

    def _one(self, way: Callable[[Problem], Done], problem: Problem) -> Mended:
        try:
            done, back = way(problem)
        except (DatasetError, CaptionError) as error:
            return Mended(problem, failure=str(error))
        except OSError as error:
            return Mended(problem, failure=f"cannot be changed ({reason(error)})")
        return Mended(problem, done, back=back)

    def _edit(self, words: str, edit: Edit, known: list[tuple[Problem, Item]]) -> list[Mended]:
        texts = {item.caption_path: item.caption for _, item in known}
        try:
            applied = self._journal.apply(plan(edit, texts))
        except JournalError as error:  # what was done before it can be taken back
            undo = partial(self._journal.undo, error.edit) if error.edit else None
            return [Mended(problem, failure=str(error), back=undo) for problem, _ in known]
        except DatasetError as error:
            return [Mended(problem, failure=str(error)) for problem, _ in known]
        undone = cache(partial(self._journal.undo, applied.id))  # once for all of them

        def back(path: Path) -> None:
            if path in undone().conflicts:
                raise DatasetError("has a caption that changed since")

        changed = set(applied.changed)
        return [
            Mended(problem, words, back=partial(back, item.caption_path))
            if item.caption_path in changed
            else Mended(problem, failure="has a caption that changed meanwhile")
            for problem, item in known
        ]

    def _mark(
        self, words: str, change: Callable[[Marks], Marks], known: list[tuple[Problem, Item]]
    ) -> list[Mended]:
        try:
            before = change_many({item.path: change for _, item in known})
        except DatasetError as error:
            return [Mended(problem, failure=str(error)) for problem, _ in known]
        back = cache(partial(set_many, before))
        return [Mended(problem, words, back=back) for problem, _ in known]

    def _item(self, problem: Problem) -> Item:
        item = self._items.get(problem.file)
        if item is None:
            raise DatasetError(_GONE)
        return item

    def _utf8(self, problem: Problem) -> Done:
        path = self._item(problem).caption_path
        text = read_caption(path)
        if text is None:
            raise DatasetError("has no caption any more")
        before = path.read_bytes()
        captions.write(path, text)
        return "its caption is saved as plain UTF-8", partial(_rewrite, path, path.read_bytes(), before)

    def _reencode(self, problem: Problem) -> Done:
        path = self._item(problem).caption_path
        raw = path.read_bytes()
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            raise DatasetError("has a caption that is not Windows-1252 either") from None
        backup = path.with_name(path.name + ".original")
        fresh = not backup.exists()
        if fresh:
            backup.write_bytes(raw)  # a guess: what it said is kept
        captions.write(path, text)
        written = path.read_bytes()

        def back() -> None:
            _rewrite(path, written, raw)
            if fresh:
                backup.unlink(missing_ok=True)

        words = f"its caption is read as Windows-1252 and saved as UTF-8; {backup.name} has what it was"
        return words, back

    def _discard(self, problem: Problem) -> Done:
        ticket = self._trash.delete([self._folder / problem.file], caption_ext=None)

        def back() -> None:
            self._trash.undo(ticket.id)

        return "is in the trash", back

    def _rename(self, problem: Problem) -> Done:
        item = self._item(problem)
        wanted = SUFFIXES.get(item.header.format) if item.header is not None else None
        if wanted is None:
            raise DatasetError("is of a format that training does not know; convert it")
        target = item.path.with_suffix(wanted[0])
        _rename(item.path, target)
        return f"is named {target.name}", partial(_rename, target, item.path)

    def _convert(self, problem: Problem) -> Done:
        (result,) = prepare([self._item(problem)], PrepareOptions(None), self._trash)
        if result.target is None:
            raise DatasetError(result.problem or "cannot be converted")
        words = f"is saved as an upright RGB picture, {result.target.name}; the original is in the trash"
        return words, partial(unprepare, [result], self._trash)


def _rewrite(path: Path, now: bytes, before: bytes) -> None:
    if path.read_bytes() != now:
        raise DatasetError("has a caption that changed since")
    with atomic_file(path) as file:
        file.write(before)


def _rename(source: Path, target: Path) -> None:
    """Rename a picture; its marks go along."""
    if os.path.lexists(target):
        raise DatasetError(f"is not renamed, for {target.name} exists already")
    marks = marks_of(source)
    source.rename(target)
    if marks != Marks():
        set_many({source: Marks(), target: marks})
