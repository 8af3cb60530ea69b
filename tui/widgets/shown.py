"""Showing what is shown already: it costs nothing, where Textual would lay out or paint anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

if TYPE_CHECKING:
    from textual.widget import Widget
    from textual.widgets import Static


def put_text(static: Static, content: Content) -> None:
    """Have ``static`` show a text; the screen is laid out again only if it needs another height."""
    shown = static.content
    if isinstance(shown, Content) and shown.is_same(content):
        return
    static.update(content, layout=False)
    static.clear_cached_dimensions()
    size, limit = static.content_size, static.styles.max_height
    needed = static.get_content_height(size, size, size.width) if size.width else -1
    if limit is not None and limit.cells is not None:
        needed = min(needed, limit.cells)
    if needed != size.height:
        static.refresh(layout=True)


def put_titles(widget: Widget, title: Content | None = None, subtitle: Content | None = None) -> None:
    """Put titles in a widget's frame; it is painted again, with all it holds, only if they are others."""
    if title is not None and widget.border_title != title.markup:
        widget.border_title = title
    if subtitle is not None and widget.border_subtitle != subtitle.markup:
        widget.border_subtitle = subtitle
