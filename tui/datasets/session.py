"""One open dataset: its pictures, unsaved captions, problems, and what can be taken back.

Methods that read or write files say so; call them in a thread. What they return is put in place by the
``put_`` methods on the event loop, so that the screen never sees half a change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backend.datasets.captions import read, tag_counts, write
from backend.datasets.drafts import Drafts
from backend.datasets.edits import Edit, Plan, plan
from backend.datasets.errors import DatasetError
from backend.datasets.filter import Context, Filter, arranged, context_of
from backend.datasets.index import Index
from backend.datasets.journal import Applied, Journal, JournalError
from backend.datasets.lint import LintOptions, lint
from backend.datasets.mend import Mended, mend
from backend.datasets.phash import Duplicates
from backend.datasets.scan import scan, scan_one
from backend.datasets.sidecar import SIDECAR
from backend.datasets.trash import Trash
from backend.files import atomic_file
from backend.home import home
from tui.datasets.pictures import Undo, bring_back
from tui.pictures.caption_desk import CaptionDesk, Draft
from tui.pictures.row import PictureRow
from tui.text import clip, one_line, plural

if TYPE_CHECKING:
    from collections import Counter

    from backend.datasets.bucketing import BucketKind
    from backend.datasets.problems import Problem
    from backend.datasets.scan import Batch, Item
    from backend.datasets.tokens import TokenCounter

_FEW = 40  # changed files that are looked at one by one; more and the folder is scanned


@dataclass(frozen=True)
class Training:
    """How the dataset will be trained, as far as the screen shows it.

    Attributes:
        resolutions: Edges in pixels.
        trigger: The trigger word, or nothing.
        caption_ext: Extension of caption files.
        kind: Which shapes it is trained in, as :func:`backend.datasets.bucketing.frames` takes it.
        default_caption: Of pictures without one.
    """

    resolutions: tuple[int, ...] = (512, 768, 1024)
    trigger: str = ""
    caption_ext: str = ".txt"
    kind: BucketKind = "new"
    default_caption: str | None = None

    @property
    def lint_options(self) -> LintOptions:
        """What it is checked for."""
        return LintOptions(
            resolutions=self.resolutions,
            trigger=self.trigger or None,
            caption_ext=self.caption_ext,
            default_caption=self.default_caption,
        )


class Places:
    """Where in the data folder the datasets' drafts, journals, trash and indexes are.

    Args:
        root: The data folder; the user's if None.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = root or home()
        base = self.root / "datasets"
        self.drafts, self.edits = base / "drafts", base / "edits"
        self.thumbnails = self.root / "cache" / "thumbnails"

    def trash(self) -> Trash:
        """The trash of this data folder."""
        return Trash(self.root / "datasets" / "trash")

    def index(self, folder: Path, caption_ext: str = ".txt") -> Index:
        """What is remembered of a dataset."""
        return Index(folder, self.root / "cache" / "datasets", caption_ext)


@dataclass(frozen=True)
class View:
    """What of the dataset is shown, and in which order."""

    filter: Filter = field(default_factory=Filter)
    order: str = "name"
    reverse: bool = False


class DatasetSession:
    """The state behind the browser of one dataset.

    Args:
        folder: The dataset.
        root: The data folder, for drafts, trash and the journal of edits.
        training: How it will be trained.
    """

    def __init__(self, folder: Path, root: Path | None = None, training: Training | None = None) -> None:
        self.folder = folder
        self.training = training or Training()
        self.items: dict[str, Item] = {}
        self.orphans: list[Path] = []
        self.found: list[Problem] = []  # by the scan
        self.problems: list[Problem] = []  # by lint, worst first
        self.desk = CaptionDesk()
        self.view = View()
        self.tokens: TokenCounter | None = None
        self.undos: list[Undo] = []
        self.places = Places(root)
        self.index = self._index()
        self._drafts, self._journal, self.trash = (
            Drafts(self.places.drafts),
            Journal(self.places.edits),
            self.places.trash(),
        )
        self._worst: dict[str, str] = {}
        self._by_file: dict[str, list[Problem]] = {}

    def train_as(self, training: Training) -> bool:
        """Have it trained in another way; whether the folder has to be read again for that."""
        again = training.caption_ext != self.training.caption_ext
        self.training = training
        if again:
            self.index = self._index()
        return again

    def _index(self) -> Index:
        return self.places.index(self.folder, self.training.caption_ext)

    # Pictures

    def scan(self, cancelled: Callable[[], bool]) -> Iterator[Batch]:
        """Reads the folder.

        Raises:
            DatasetError: It is gone or cannot be read.
        """
        ext = self.training.caption_ext
        return scan(self.folder, caption_ext=ext, index=self.index, cancelled=cancelled)

    def put_scan(self, items: Iterable[Item], orphans: Iterable[Path], problems: Iterable[Problem]) -> None:
        """Have exactly these pictures."""
        self.items = {item.name: item for item in items}
        self.orphans, self.found = list(orphans), list(problems)

    def put_more(self, items: Iterable[Item]) -> None:
        """Have these pictures as well: a scan is under way."""
        self.items.update({item.name: item for item in items})

    def put_changes(self, changes: Mapping[str, Item | None]) -> None:
        """Pictures that changed, or are gone."""
        for name, item in changes.items():
            if item is None:
                self.items.pop(name, None)
            else:
                self.items[name] = item

    def look_at(self, paths: Collection[Path], items: Collection[Item]) -> dict[str, Item | None] | None:
        """Reads what a few changed files mean; None if the whole folder has to be scanned.

        Args:
            paths: What changed.
            items: The pictures as they are known.
        """
        if len(paths) > _FEW or any(path.name == SIDECAR or path.is_dir() for path in paths):
            return None
        by_caption: dict[Path, list[Item]] = {}
        by_path = {item.path: item for item in items}
        for item in items:
            by_caption.setdefault(item.caption_path, []).append(item)
        wanted: set[Path] = set()
        for path in paths:
            if path in by_path:
                wanted.add(path)
            elif path.suffix == self.training.caption_ext:
                if path not in by_caption:
                    return None  # a caption without a picture came or went
                wanted |= {item.path for item in by_caption[path]}
            elif path.name.startswith(".") or path.suffix in (".tmp", ".part"):
                continue
            else:
                return None  # a new picture, or something else: the scan knows
        changes: dict[str, Item | None] = {}
        for path in wanted:
            changes[by_path[path].name] = scan_one(self.folder, path, self.training.caption_ext)
        return changes

    def names(self, keep: str | None = None) -> list[str]:
        """Names of the pictures that are shown, in order.

        Args:
            keep: A picture that is shown whatever the filter says: its caption is being written, and what
                is typed must not take it from under the keys.
        """
        view = self.view
        shown = view.filter
        if keep is not None:
            shown = Filter(shown.text, (lambda it, known: it.name == keep or view.filter.matches(it, known),))
        return arranged(self.items.values(), shown, self.context(), view.order, reverse=view.reverse)

    def context(self) -> Context:
        """What filters ask for beside the pictures."""
        drafts = {name: draft.text for name in self.desk.names if (draft := self.desk.get(name))}
        return context_of(self.problems, drafts, min(self.training.resolutions, default=512))

    def row(self, name: str) -> PictureRow | None:
        """A picture as the list and the grid show it."""
        item = self.items.get(name)
        if item is None:
            return None
        header = item.header
        draft = self.desk.get(name)
        return PictureRow(
            name,
            item.path,
            (item.mtime_ns, item.bytes, item.crop),
            (header.width, header.height) if header is not None else None,
            draft.text if draft is not None else item.caption,
            self._worst.get(name, ""),
            item.excluded,
            item.crop is not None,
            draft is not None,
        )

    # Problems

    @property
    def options(self) -> LintOptions:
        """What the dataset is checked for."""
        options = self.training.lint_options
        return options if self.tokens is None else replace(options, tokens=self.tokens)

    def lint(
        self, items: Sequence[Item], orphans: Sequence[Path], duplicates: Duplicates | None = None
    ) -> list[Problem]:
        """All problems, worst first; takes tenths of a second for thousands of pictures."""
        return lint(
            self.folder, items, self.options, orphans=orphans, duplicates=duplicates, scanned=self.found
        )

    def mend(self, problems: Sequence[Problem]) -> tuple[list[Mended], Undo | None]:
        """Mends problems one by one (reads and writes)."""
        items = list(self.items.values())
        results = mend(problems, self.folder, items, self.options, trash=self.trash, journal=self._journal)
        done = [result for result in results if result.back is not None]

        def back() -> str:
            kept = []
            for result in reversed(done):
                try:
                    assert result.back is not None
                    result.back()
                except (DatasetError, OSError) as error:
                    kept.append(f"{one_line(result.problem.file)} {one_line(str(error))}")
            words = f"{plural(len(done) - len(kept), 'file')} as before mending."
            return f"{words} Not taken back: {kept[0]}." if kept else words

        return results, Undo(f"{plural(len(done), 'problem')} mended", back) if done else None

    def put_problems(self, problems: Iterable[Problem]) -> None:
        """Have these problems, worst first."""
        self.problems = list(problems)
        worst: dict[str, str] = {}
        self._by_file = {}
        for problem in self.problems:
            worst.setdefault(problem.file, str(problem.severity))
            self._by_file.setdefault(problem.file, []).append(problem)
        self._worst = worst

    def problems_of(self, name: str) -> list[Problem]:
        """The problems of one file, worst first."""
        return self._by_file.get(name, [])

    # Captions

    def caption(self, name: str) -> str:
        """What the editor shows of a picture."""
        item = self.items.get(name)
        return self.desk.text(name, item.caption if item is not None else None)

    def tag_counts(self) -> Counter[str]:
        """How many captions have each tag."""
        return tag_counts([self.caption(name) for name in self.items])

    def read_drafts(self) -> dict[Path, Draft]:
        """Reads what an earlier session, or a captioning job, left to be saved or dropped."""
        return {draft.path: Draft(draft.text, draft.base) for draft in self._drafts.all(self.folder)}

    def put_drafts(self, drafts: Mapping[Path, Draft]) -> None:
        """Take these drafts up."""
        found = {}
        for name, item in self.items.items():
            draft = drafts.get(item.caption_path)
            if draft is not None and draft.text != (item.caption or ""):
                found[name] = draft
        self.desk.restore(found)

    def keep_draft(self, path: Path, draft: Draft | None) -> None:
        """Writes an unsaved caption to the data folder; None: there is none any more."""
        if draft is None:
            self._drafts.discard(path)
        else:
            self._drafts.save(path, draft.text, base=draft.base)

    def save_caption(self, item: Item, text: str) -> Undo:
        """Writes a caption, at once or not at all.

        Raises:
            OSError, DatasetError: It cannot be written; the draft is kept.
        """
        path = item.caption_path
        if not item.path.parent.is_dir():
            raise DatasetError(f"The folder {item.path.parent} is gone; the caption is kept as a draft.")
        found = read(path)
        if found.problem is not None or found.text != item.caption:
            raise DatasetError(f"{path.name} was changed by another program just now; look at it first.")
        before = path.read_bytes() if found.text is not None else None  # it may have a BOM, or be UTF-16
        write(path, text)
        self._drafts.discard(path)

        def back() -> str:
            if read(path).text != text:
                return f"The caption of {item.name} was changed since and stays as it is."
            if before is None:
                path.unlink(missing_ok=True)
            else:
                with atomic_file(path) as file:
                    file.write(before)
            return f"The caption of {item.name} is as it was."

        return Undo(f"the caption of {item.name}", back)

    def texts(self, names: Iterable[str]) -> dict[Path, str | None]:
        """Saved captions by their files, for a plan."""
        items = [self.items[name] for name in names if name in self.items]
        return {item.caption_path: item.caption for item in items if not item.caption_problem}

    @staticmethod
    def plan(edit: Edit, texts: Mapping[Path, str | None]) -> Plan:
        """What an edit would change.

        Raises:
            DatasetError: The edit makes no sense.
        """
        return plan(edit, texts)

    def apply(self, planned: Plan) -> tuple[Applied, Undo | None]:
        """Writes a plan's captions; each is either old or new whatever happens.

        Raises:
            DatasetError: A caption cannot be written; what was done is the next to be taken back.
        """
        try:
            applied = self._journal.apply(planned)
        except JournalError as error:
            if error.edit:
                self.undos.append(self._edit_undo(error.edit, planned.title))
            raise
        return applied, self._edit_undo(applied.id, applied.title) if applied.changed else None

    def _edit_undo(self, edit_id: str, title: str) -> Undo:
        def back() -> str:
            undone = self._journal.undo(edit_id)
            left = len(undone.conflicts)
            kept = f"; {plural(left, 'caption')} changed since and stayed" if left else ""
            # It may be an edit of an earlier session, which nobody would guess.
            return f"Taken back: {clip(title, 60)}. {plural(len(undone.changed), 'caption')} as before{kept}."

        return Undo(title, back)

    def last_undo(self) -> Undo | None:
        """What can be taken back: the newest of this session, else of earlier ones (reads).

        Of those there are bulk edits and the trash.
        """
        if self.undos:
            return self.undos[-1]
        entry, ticket = self._journal.last(self.folder), self.trash.last(self.folder, replaced=False)
        if ticket is not None and (entry is None or ticket.id > entry.id):  # ids begin with the time
            return bring_back(ticket, self.trash, len(ticket.paths))
        return self._edit_undo(entry.id, entry.title) if entry is not None else None

    def unfinished(self) -> list[str]:
        """Bulk edits that a crash cut short, in a few words each (reads)."""
        return [entry.title for entry in self._journal.unfinished(self.folder)]
