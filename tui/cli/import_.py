"""``import``: another trainer's config as ours."""

from __future__ import annotations

import sys
from pathlib import Path

from backend.files import write_text
from tui.cli.main import fail
from tui.cli.report import absolute, print_problems


def import_config(file: str, output: str | None) -> int:
    """Write the config that ``file`` becomes; ``-`` is standard input or output.

    An existing file is never replaced. Returns 0, or 2 if there is nothing to import or no place for it.
    """
    from config.importers import ImportRefusedError, import_file, import_text

    shown = "standard input" if file == "-" else file
    try:
        if file == "-":
            imported = import_text(sys.stdin.read(), "command", Path.cwd())
        else:
            imported = import_file(absolute(file))
    except ImportRefusedError as error:
        return fail(f"{shown} {error}", 2)
    except UnicodeDecodeError:
        return fail(f"{shown} is not text", 2)
    if output == "-":
        print(imported.text, end="")
        return 0
    target = absolute(output) if output else _beside(file, imported.name)
    if target.exists():
        return fail(f"{target} exists already and is not replaced; give another file with --output", 2)
    if not target.parent.is_dir():
        return fail(f"there is no folder {target.parent}; make it, or give another file with --output", 2)
    write_text(target, imported.text)
    count = imported.without_equal
    remarks = f"; {count} remark{'s' if count != 1 else ''} in its comments" if count else ""
    print(f"{target}: imported from {imported.source}{remarks}")
    for text in imported.urgent:
        print(f"{target}: {text}", file=sys.stderr)
    _check(target)
    return 0


def _beside(file: str, name: str) -> Path:
    if file == "-":
        return absolute(f"{name}.yaml")
    return absolute(file).with_suffix(".yaml")


def _check(target: Path) -> None:
    """Say what still prevents training; missing folders are usual on a new machine."""
    from config.load import check_config

    _, problems = check_config(target)
    print_problems(str(target), [problem for problem in problems if problem.severity != "info"])
