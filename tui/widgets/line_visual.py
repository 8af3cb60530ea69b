"""A row of a list that is written anew for every width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.visual import Visual

if TYPE_CHECKING:
    from textual.content import Content
    from textual.strip import Strip
    from textual.style import Style
    from textual.visual import RenderOptions


class LineVisual(Visual):
    """One line; it takes whatever width there is."""

    def content(self, width: int) -> Content:
        """The line in so many cells."""
        raise NotImplementedError

    def get_optimal_width(self, rules: object, container_width: int) -> int:
        """All there is."""
        return container_width

    def get_height(self, rules: object, width: int) -> int:
        """One line."""
        return 1

    def render_strips(
        self, width: int, height: int | None, style: Style, options: RenderOptions
    ) -> list[Strip]:
        """The line at ``width`` cells."""
        return self.content(width).render_strips(width, 1, style, options)
