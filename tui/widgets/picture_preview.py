"""The picture under the cursor, large, with the part that training sees, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui.text import clip, one_line, size
from tui.widgets.half_cells import Frame
from tui.widgets.picture import make_picture
from tui.widgets.shown import put_text, put_titles

if TYPE_CHECKING:
    from textual.widget import Widget

    from backend.datasets.problems import Problem
    from backend.datasets.scan import Item
    from tui.datasets.session import Training
    from tui.terminal import Protocol

STYLES = {"error": "$text-error", "warning": "$text-warning", "info": "$text-muted"}
MARKS = {"error": "✗", "warning": "!", "info": "·"}
_NAME = 200  # cells of a name; more than a frame is wide, which cuts it


@dataclass(frozen=True)
class Cut:
    """The part of a picture that one resolution's training sees.

    Attributes:
        label: The bucket, such as ``512x768``.
        resolutions: All buckets of the picture, in words.
        frame: The part.
    """

    label: str
    resolutions: str
    frame: Frame


def cut_of(item: Item, training: Training, chosen: int) -> Cut | None:
    """What training sees of a picture in the bucket of one of its resolutions.

    Args:
        item: The picture.
        training: How the dataset is trained.
        chosen: Position among the picture's buckets; counted from its end if there are fewer.
    """
    from backend.datasets.bucketing import frames

    header = item.header
    if header is None:
        return None
    found = frames(header.width, header.height, training.resolutions, training.kind, item.crop)
    if not found:
        return None
    at = min(chosen, len(found) - 1)
    left, top, right, bottom = found[at].box
    frame = Frame(left / header.width, top / header.height, right / header.width, bottom / header.height)
    words = " ".join(f"[{it.bucket}]" if index == at else str(it.bucket) for index, it in enumerate(found))
    return Cut(str(found[at].bucket), words, frame)


class PicturePreview(Vertical):
    """A picture over its facts.

    Args:
        protocol: How pictures are drawn; ``off`` leaves the facts alone.
        forced: Whether the user named the protocol.
    """

    DEFAULT_CSS = """
    PicturePreview {
        height: 1fr;
        border: round $foreground 30%;
        border-title-color: $foreground;
        border-subtitle-color: $text-muted;
        & > #facts { height: auto; max-height: 7; }
    }
    """

    def __init__(self, protocol: Protocol, *, forced: bool = False) -> None:
        super().__init__(id="preview")
        self._picture = make_picture(protocol, forced=forced) if protocol != "off" else None
        self._shown: tuple[object, ...] = ()
        self.border_title = "Picture"

    def compose(self) -> Iterable[Widget]:
        """The picture over the facts."""
        if self._picture is not None:
            yield self._picture
        yield Static(id="facts", markup=False)

    def show_item(self, item: Item | None, cut: Cut | None, problems: Sequence[Problem]) -> None:
        """Show a picture, or that there is none."""
        facts = self.query_one("#facts", Static)
        if item is None:
            self._show_picture(None, None, None)
            put_titles(self, Content("Picture"), Content(""))
            put_text(facts, Content(""))
            return
        self._show_picture(item.path, (item.mtime_ns, item.bytes), cut.frame if cut else None)
        put_titles(self, Content(clip(item.name, _NAME)), Content(f"trains as {cut.label}" if cut else ""))
        put_text(facts, Content("\n").join(self._facts(item, cut, problems)))

    def _show_picture(self, path: Path | None, stamp: object, frame: Frame | None) -> None:
        if self._picture is not None:
            again = (path, stamp) != self._shown
            self._shown = (path, stamp)
            self._picture.show_picture(path, again=again, frame=frame)

    def _facts(self, item: Item, cut: Cut | None, problems: Sequence[Problem]) -> list[Content]:
        lines = []
        header = item.header
        if header is not None:
            words = f"{header.width}x{header.height} · {header.width / header.height:.2f} · {header.format}"
            lines.append(Content(f"{words} · {size(item.bytes)}"))
        else:
            lines.append(Content(size(item.bytes)))
        if cut is not None:
            lines.append(Content.assemble(("buckets ", "dim"), cut.resolutions))
        state = []
        if item.excluded:
            state.append("kept out of training")
        if item.crop is not None:
            state.append(f"cropped to {item.crop.width}x{item.crop.height}")
        if state:
            lines.append(Content.styled(" · ".join(state), "$text-accent"))
        for problem in problems[:4]:
            severity = str(problem.severity)
            lines.append(
                Content.assemble((f"{MARKS[severity]} ", STYLES[severity]), one_line(problem.message))
            )
        return lines
