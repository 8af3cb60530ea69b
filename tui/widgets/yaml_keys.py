"""The keys of the text view of a config."""

from __future__ import annotations

from textual.binding import Binding, BindingType


def _key(key: str, action: str, title: str, name: str, tooltip: str, *, show: bool = False) -> Binding:
    return Binding(key, action, title, show=show, id=f"text.{name}", tooltip=tooltip)


YAML_KEYS: list[BindingType] = [
    _key("ctrl+k", "help_here", "Key help", "help", "What the key under the cursor means.", show=True),
    _key("ctrl+@,ctrl+space", "complete", "Complete", "complete", "What can stand here."),
    _key(
        "ctrl+underscore,ctrl+slash",
        "toggle_comment",
        "Comment",
        "comment",
        "Lines to comments and back.",
    ),
    _key("alt+up,ctrl+shift+up", "move_lines(-1)", "Line up", "line-up", "Move the lines up."),
    _key("alt+down,ctrl+shift+down", "move_lines(1)", "Line down", "line-down", "Move the lines down."),
    _key("ctrl+d", "duplicate_lines", "Duplicate", "duplicate", "The lines once more, below."),
    _key("tab", "indent(1)", "Indent", "indent", "One step deeper; completes where a list is open."),
    _key("shift+tab", "indent(-1)", "Indent less", "dedent", "One step less deep."),
    _key("ctrl+z,super+z", "undo", "Undo", "undo", "Take the last change back."),
    _key("ctrl+y,ctrl+shift+z,super+y", "redo", "Redo", "redo", "Make it again."),
    _key("ctrl+x,super+x", "cut", "Cut", "cut", "Cut the selection, or the line."),
    _key("ctrl+c,super+c", "copy", "Copy", "copy", "Copy the selection."),
    _key("ctrl+v", "paste", "Paste", "paste", "Paste."),
    _key("ctrl+t", "select_all", "Select all", "select-all", "Select everything."),
    _key("ctrl+shift+k", "delete_line", "Delete line", "delete-line", "Delete the line."),
    _key("up", "cursor_up", "Up", "up", "A line up."),
    _key("down", "cursor_down", "Down", "down", "A line down."),
    _key("left", "cursor_left", "Left", "left", "A character to the left."),
    _key("right", "cursor_right", "Right", "right", "A character to the right."),
    _key("ctrl+left", "cursor_word_left", "Word left", "word-left", "A word to the left."),
    _key("ctrl+right", "cursor_word_right", "Word right", "word-right", "A word to the right."),
    _key("home,ctrl+a", "cursor_line_start", "Line start", "home", "To the line's first character."),
    _key("end,ctrl+e", "cursor_line_end", "Line end", "end", "To the line's end."),
    _key("ctrl+home", "edge(-1)", "Top", "top", "To the first line."),
    _key("ctrl+end", "edge(1)", "Bottom", "bottom", "To the last line."),
    _key("pageup", "cursor_page_up", "Page up", "page-up", "A page up."),
    _key("pagedown", "cursor_page_down", "Page down", "page-down", "A page down."),
    _key("shift+up", "cursor_up(True)", "Select up", "select-up", "Select a line up."),
    _key("shift+down", "cursor_down(True)", "Select down", "select-down", "Select a line down."),
    _key("shift+left", "cursor_left(True)", "Select left", "select-left", "Select to the left."),
    _key("shift+right", "cursor_right(True)", "Select right", "select-right", "Select to the right."),
    _key(
        "ctrl+shift+left",
        "cursor_word_left(True)",
        "Select word left",
        "select-word-left",
        "Select a word to the left.",
    ),
    _key(
        "ctrl+shift+right",
        "cursor_word_right(True)",
        "Select word right",
        "select-word-right",
        "Select a word to the right.",
    ),
    _key("shift+home", "cursor_line_start(True)", "Select to start", "select-home", "Select to the start."),
    _key("shift+end", "cursor_line_end(True)", "Select to end", "select-end", "Select to the end."),
    _key("backspace", "delete_left", "Delete left", "backspace", "Delete to the left."),
    _key("delete", "delete_right", "Delete right", "delete", "Delete to the right."),
    _key(
        "ctrl+w,ctrl+backspace,alt+backspace",
        "delete_word_left",
        "Delete word left",
        "delete-word-left",
        "Delete a word to the left.",
    ),
    _key("alt+delete", "delete_word_right", "Delete word", "delete-word", "Delete a word to the right."),
    _key(
        "ctrl+u",
        "delete_to_start_of_line",
        "Delete to start",
        "delete-to-start",
        "Delete to the line's start.",
    ),
]
