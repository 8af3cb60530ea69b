"""Help: the keys that work right here, taken from the bindings themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Markdown, Static

from tui.keymap import bindings_of, split_keys
from tui.text import clip, fit, one_line

if TYPE_CHECKING:
    from textual.app import App, ComposeResult
    from textual.geometry import Size
    from textual.screen import Screen

_KEYS = 16  # cells for the keys
_KEYS_WHEN_NARROW = 9
_WIDE = 50


@dataclass(frozen=True)
class HelpKey:
    """One action: its keys as they are shown, what it does, and the id for the settings file."""

    keys: str
    text: str
    id: str


@dataclass(frozen=True)
class HelpSection:
    """The keys of one pane, of the screen, or of the app."""

    title: str
    about: str
    keys: tuple[HelpKey, ...]


def help_sections(screen: Screen[Any], keymap: Mapping[str, str]) -> list[HelpSection]:
    """What to show for a screen: its focused pane first, then the screen, its other panes, the app.

    Args:
        screen: The screen that help was asked on.
        keymap: The user's keys by binding id.
    """
    app = screen.app
    focused = list(screen.focused.ancestors_with_self if screen.focused else ())
    panes = [node for node in focused if isinstance(node, Widget) and node is not screen and _own(node)]
    others = [pane for pane in screen.focus_chain if pane not in panes and _own(pane)]
    sections = [_section(app, pane, f"{_title(pane)} (focused)", keymap) for pane in panes]
    sections.append(_section(app, screen, f"{_screen_title(screen)} screen", keymap))
    sections += [_section(app, pane, _title(pane), keymap) for pane in others]
    sections.append(_section(app, app, "Everywhere", keymap))
    return sections


def _own(node: object) -> bool:
    return next(bindings_of(type(node)), None) is not None


def _title(pane: Widget) -> str:
    for node in pane.ancestors_with_self:
        if isinstance(node, Widget) and node.border_title:
            return Content.from_markup(str(node.border_title)).plain
    return type(pane).__name__


def _screen_title(screen: Screen[Any]) -> str:
    return str(getattr(screen, "MODE", "") or type(screen).__name__).capitalize()


def _section(app: App[Any], node: Any, title: str, keymap: Mapping[str, str]) -> HelpSection:
    keys = []
    for binding in bindings_of(type(node)):
        if app._check_action_state(binding.action, node) is False:
            continue  # it does not exist right now
        shown = [
            app.get_key_display(Binding(key, binding.action))
            for key in split_keys(keymap.get(binding.id or "", binding.key))
        ]
        text = binding.tooltip or binding.description
        keys.append(HelpKey(" ".join(shown), text, binding.id or ""))
    return HelpSection(title, _without_heading(str(getattr(node, "HELP", "") or "")), tuple(keys))


class HelpScreen(ModalScreen[None], inherit_bindings=False):
    """A scrolling list of sections."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "escape,q,question_mark,f1,ctrl+c",
            "close",
            "Close",
            id="help.close",
            tooltip="Back to the screen.",
        ),
        Binding("down,j", "scroll(1)", "Down", show=False, id="help.down", tooltip="A line down."),
        Binding("up,k", "scroll(-1)", "Up", show=False, id="help.up", tooltip="A line up."),
        Binding(
            "pagedown,space", "page(1)", "Page down", show=False, id="help.page-down", tooltip="A page down."
        ),
        Binding("pageup", "page(-1)", "Page up", show=False, id="help.page-up", tooltip="A page up."),
    ]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
        width: 90;
        max-width: 96%;
        height: auto;
        max-height: 94%;
        padding: 0 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
        scrollbar-size-vertical: 1;
    }
    HelpScreen .title { text-style: bold; color: $text-accent; margin-top: 1; }
    HelpScreen Markdown { margin: 1 0 0 0; padding: 0; background: transparent; color: $text-muted; }
    HelpScreen Markdown MarkdownParagraph { margin: 0; }
    HelpScreen Markdown MarkdownBulletList { margin: 1 0 0 0; padding: 0; }
    """

    def __init__(self, sections: Iterable[HelpSection]) -> None:
        super().__init__()
        self._sections = tuple(sections)

    def compose(self) -> ComposeResult:
        """The sections below each other."""
        with VerticalScroll() as body:
            body.border_title = "Help"
            body.border_subtitle = "esc closes"
            body.can_focus = False
            for section in self._sections:
                if not section.keys and not section.about:
                    continue
                yield Static(Content(one_line(section.title)), classes="title")
                if section.keys:
                    yield HelpKeys(section.keys)
                if section.about:
                    yield Markdown(section.about, open_links=False)

    def action_close(self) -> None:
        """Back to the screen."""
        self.dismiss(None)

    def action_scroll(self, lines: int) -> None:
        """Move by lines."""
        body = self.query_one(VerticalScroll)
        body.scroll_relative(y=lines, animate=False)

    def action_page(self, pages: int) -> None:
        """Move by pages."""
        body = self.query_one(VerticalScroll)
        body.scroll_relative(y=pages * max(1, body.size.height - 1), animate=False)


class HelpKeys(Widget):
    """Lines of keys, what they do, and the id that the settings file knows them by."""

    DEFAULT_CSS = "HelpKeys { height: auto; }"

    def __init__(self, keys: tuple[HelpKey, ...]) -> None:
        super().__init__()
        self._help_keys = keys

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The lines of all keys."""
        return sum(len(_lines(key, width)) for key in self._help_keys)

    def render(self) -> Content:
        """The lines at the present width."""
        width = self.content_size.width
        return Content("\n").join(line for key in self._help_keys for line in _lines(key, width))


def _lines(key: HelpKey, width: int) -> list[Content]:
    """One key: what it does is broken into lines where it is long; nothing of it is cut."""
    keys = _KEYS if width >= _WIDE else _KEYS_WHEN_NARROW
    rows = textwrap.wrap(one_line(key.text), max(12, width - keys - 1)) or [""]
    lines = [Content(" " * (keys + 1) + row) for row in rows]
    if cell_len(key.keys) > keys:
        lines.insert(0, Content.styled(clip(key.keys, width), "bold"))
        return lines
    room = width - keys - len(key.id) - 3
    if len(rows) == 1 and room >= cell_len(rows[0]):  # the id is the first to give way
        first = Content.assemble(" ", fit(rows[0], room), "  ", (key.id, "dim"))
    else:
        first = Content(f" {rows[0]}")
    return [Content.assemble((fit(key.keys, keys), "bold"), first), *lines[1:]]


def _without_heading(about: str) -> str:
    """Help of a pane without a heading of its own: the section has one."""
    text = about.strip()
    return text.partition("\n")[2].strip() if text.startswith("#") else text
