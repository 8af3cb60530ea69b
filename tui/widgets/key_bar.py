"""The line at the bottom: the keys that work right here, as many as fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from tui.text import one_line

if TYPE_CHECKING:
    from textual import events
    from textual.screen import Screen

_ALWAYS = ("app.help",)  # whoever sees nothing else must see how to see the rest
_LATE = ("app.quit", "app.jump")  # the next ones to be kept when it gets narrow


class Key(NamedTuple):
    """One entry of the bar."""

    id: str
    key: str
    display: str
    description: str
    enabled: bool

    @property
    def width(self) -> int:
        """Cells taken, the gap behind included."""
        return Content(f"{self.display} {self.description}  ").cell_length


def choose(keys: list[Key], width: int) -> list[Key]:
    """The keys to show in ``width`` cells: help, quit and jump, then from the left what works now."""

    def rank(item: tuple[int, Key]) -> tuple[int, int]:
        position, key = item
        if key.id in _ALWAYS:
            return (0, position)
        if key.id in _LATE:
            return (1 + _LATE.index(key.id), position)
        return (len(_LATE) + (1 if key.enabled else 2), position)

    left = width + 2  # the last one needs no gap
    chosen: set[int] = set()
    for position, key in sorted(enumerate(keys), key=rank):
        if key.width <= left:
            chosen.add(position)
            left -= key.width
    return [key for position, key in enumerate(keys) if position in chosen]


class KeyBar(Widget):
    """The shown bindings of the focused pane, its screen and the app; a click presses the key."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    KeyBar {
        dock: bottom;
        height: 1;
        padding: 0 1;
        background: $panel;
        color: $foreground;
    }
    """

    def on_mount(self) -> None:
        """Follow the screen's bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        self.refresh()

    def _keys(self) -> list[Key]:
        keys: dict[tuple[str, str], Key] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and (binding.id or "", binding.action) not in keys:
                keys[binding.id or "", binding.action] = Key(
                    binding.id or "",
                    binding.key,
                    self.app.get_key_display(binding),
                    one_line(binding.description),
                    active.enabled,
                )
        return list(keys.values())

    def render(self) -> Content:
        """The keys that fit."""
        parts = []
        for key in choose(self._keys(), self.content_size.width):
            entry = Content.assemble(
                (key.display, "bold $text-accent" if key.enabled else "dim"),
                (f" {key.description}", "$foreground" if key.enabled else "dim"),
            )
            parts.append(entry.stylize(Style.from_meta({"key": key.key})))
        return Content("  ").join(parts)

    def on_click(self, event: events.Click) -> None:
        """Press the key that was hit."""
        if key := event.style.meta.get("key"):
            event.stop()
            self.app.simulate_key(key)
