"""What a :class:`~tui.widgets.log_pane.LogPane` tells about itself: its keys and their help."""

from __future__ import annotations

from textual.binding import Binding, BindingType

HELP = """
## Log

The run's output, live. It follows the newest line until you move up; the corner then counts what is new.

- **f** or **End** follows again; **Home** goes to the first line; **:** goes to a step, a time or a line.
- **/** searches the whole log. Case counts only if you type capitals. **Enter** goes to the nearest match,
  **n** and **N** to the next and the one before, **Esc** ends the search.
- **F** shows only lines with a text, **l** only lines from a level on (info, warning, error). **ctrl+r**
  takes what you type as a regular expression, in both.
- **space** selects a line (so does a click) and takes the chart to its step; **shift** with the arrows, or a
  drag, selects more. **y** copies, **W** saves all the lines shown to a file.
- **w** wraps long lines; unwrapped, **left** and **right** pan. A `›` marks a line that goes on. **T** hides
  the times.
"""  # noqa: RUF001

BINDINGS: list[BindingType] = [
    Binding("slash", "search", "Search", id="log.search", tooltip="Search the whole log"),
    Binding("F", "filter", "Filter", id="log.filter", tooltip="Show only lines with a text"),
    Binding("f", "toggle_follow", "Follow", id="log.follow", tooltip="Follow the newest line, or pause"),
    Binding("n", "next_match", "Next", id="log.next-match", tooltip="Go to the next match"),
    Binding("N", "previous_match", "Previous", id="log.previous-match", show=False,
            tooltip="Go to the match before"),
    Binding("w", "toggle_wrap", "Wrap", id="log.wrap", tooltip="Wrap long lines, or pan sideways"),
    Binding("l", "next_level", "Level", id="log.level", show=False,
            tooltip="Show only lines from a level on: info, warning, error, all"),
    Binding("ctrl+r", "toggle_regex", "Regex", id="log.regex", show=False,
            tooltip="Search and filter by regular expression, or by plain text"),
    Binding("colon", "jump", "Go to", id="log.jump", show=False, tooltip="Go to a step, a time or a line"),
    Binding("T", "toggle_times", "Times", id="log.times", show=False,
            tooltip="Show or hide the time at the beginning of lines"),
    Binding("space", "select", "Select", id="log.select", show=False,
            tooltip="Select a line, and show its step in the chart"),
    Binding("shift+up", "extend(-1)", "Select up", id="log.select-up", show=False,
            tooltip="Select one line more above"),
    Binding("shift+down", "extend(1)", "Select down", id="log.select-down", show=False,
            tooltip="Select one line more below"),
    Binding("y", "copy", "Copy", id="log.copy", show=False,
            tooltip="Copy what is selected, or the newest line on the screen"),
    Binding("W", "save", "Save", id="log.save", show=False, tooltip="Save the lines shown to a file"),
    Binding("escape", "end_search", "End search", id="log.end-search", show=False,
            tooltip="End the selection; then the search; then the filter"),
    Binding("up,k", "move(-1)", "Up", id="log.up", show=False, tooltip="One row up; stops following"),
    Binding("down,j", "move(1)", "Down", id="log.down", show=False, tooltip="One row down"),
    Binding("pageup,ctrl+u", "page(-1)", "Page up", id="log.page-up", show=False, tooltip="One page up"),
    Binding("pagedown,ctrl+d", "page(1)", "Page down", id="log.page-down", show=False,
            tooltip="One page down"),
    Binding("home,g", "top", "First line", id="log.top", show=False, tooltip="Go to the first line"),
    Binding("end,G", "end", "End", id="log.end", show=False, tooltip="Go to the end and follow"),
    Binding("left", "pan(-8)", "Pan left", id="log.pan-left", show=False,
            tooltip="Show more of the left of long lines"),
    Binding("right", "pan(8)", "Pan right", id="log.pan-right", show=False,
            tooltip="Show more of the right of long lines"),
]  # fmt: skip
