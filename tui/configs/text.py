"""What the editor asks about a text: problems, form, estimate. Slow: all for threads, or a process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui.widgets.yaml_area import Mark

if TYPE_CHECKING:
    from backend.estimate import Estimate, Lever
    from config.form import Group
    from config.problems import Problem
    from config.quickfix import Fix

LARGE = 1500  # lines from which a check waits longer for a pause and has a process of its own


@dataclass(frozen=True)
class Findings:
    """What a look at a text found.

    Attributes:
        problems: In the file's order.
        marks: Their places.
        groups: The form; None if the text cannot be parsed.
        reason: Why there is no form.
        sweep: How many runs the lists of values make; 0 if it is no sweep.
    """

    problems: tuple[Problem, ...]
    marks: tuple[Mark, ...]
    groups: tuple[Group, ...] | None
    reason: str = ""
    sweep: int = 0


def is_json(path: Path) -> bool:
    """Whether the file is JSON by its name."""
    return path.suffix.lower() == ".json"


def look(path: Path, text: str, *, form: bool = True) -> Findings:
    """Check a text that need not be saved.

    Args:
        path: Where it is or will be; paths in it are relative to that folder.
        text: The text.
        form: Whether the form is wanted too.
    """
    from config.diagnose import diagnose, span_of
    from config.editing import EditError
    from config.form import groups
    from config.sweeps import SweepError, collapse, find_sweep

    json_file = is_json(path)
    sweep = 0
    checked = text
    extra: list[Problem] = []
    if "[" in text or "- " in text:
        try:
            found = find_sweep(text, is_json=json_file)
            if found is not None:
                sweep, checked = len(found.runs), collapse(text)
        except SweepError as error:
            from config.problems import Problem as MadeProblem

            extra = [MadeProblem("error", "", str(error))]
        except EditError:
            pass  # it does not parse: the check says so
    problems = (*extra, *diagnose(path, checked))
    marks = []
    for problem in problems:
        span = span_of(checked, problem, is_json=json_file)
        if span is not None:
            line, start, end_line, end = span
            marks.append(Mark(line, start, end if end_line == line else 10_000, problem.severity))
    if not form:
        return Findings(problems, tuple(marks), None, sweep=sweep)
    try:
        return Findings(
            problems, tuple(marks), groups(text, is_json=json_file, problems=problems), sweep=sweep
        )
    except EditError as error:
        return Findings(problems, tuple(marks), None, str(error), sweep)


def form_of(path: Path, text: str) -> tuple[Group, ...] | None:
    """The form alone; None if the text cannot be parsed."""
    from config.editing import EditError
    from config.form import groups

    try:
        return groups(text, is_json=is_json(path))
    except EditError:
        return None


def reckon(path: Path, text: str) -> tuple[Estimate | None, list[Lever]]:
    """What a run of the text would take, and what would change it most; None if it has errors."""
    from backend.estimate import estimate_text, known_speeds, what_would_change_it_most
    from config.load import check_text
    from config.sweeps import collapse

    text = collapse(text)
    estimate = estimate_text(path, text, here=known_speeds())
    if estimate is None:
        return None, []
    best = next((gpu.gpu for gpu in estimate.gpus if gpu.fits), None)
    loaded = check_text(path, text, files=False)[0]
    if best is None or loaded is None:
        return estimate, []
    return estimate, list(what_would_change_it_most(loaded.config, best))


def fixes(path: Path, text: str, problem: Problem) -> list[Fix]:
    """What would mend a problem."""
    from config.quickfix import fixes_for

    return fixes_for(text, problem, is_json=is_json(path))


def keys_of(path: Path, text: str) -> list[tuple[str, int, int]]:
    """Every key with its line and column from 0, for "go to key"; empty if the text cannot be parsed."""
    from config.editing import Tree, TreeError, location

    try:
        tree = Tree.parse(text, is_json(path))
    except TreeError:
        return []
    found = []
    for key in tree.paths():
        span = tree.key_span(key) or tree.value_span(key)
        if span is None or key[:3] != ("config", "process", 0):
            continue
        if len(key) > 3:
            line, column = location(text, span.start)
            found.append((".".join(map(str, key[3:])), line, column))
    return found


def warm_up() -> None:
    """Import what completions need, so that the first one is quick."""
    import config.completion
    import config.editing
    import config.form  # noqa: F401
