"""``explain`` and ``schema``: what a config may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.cli.main import fail
from tui.cli.report import print_json

if TYPE_CHECKING:
    from config.help import FieldHelp


def explain(key: str | None, *, as_json: bool) -> int:
    """Print what a key means, or all sections without one; 2 if there is no such key."""
    from config.help import UnknownKeyError, all_fields
    from config.help import explain as find

    if key is None:
        sections = [help_ for help_ in all_fields().values() if help_.fields]
        if as_json:
            print_json([help_.record() for help_ in sections])
        else:
            _print_list(sections)
        return 0
    try:
        found = find(key)
    except UnknownKeyError as error:
        return fail(str(error), 2)
    if as_json:
        print_json(found.record())
    else:
        _print_one(found)
    return 0


def _print_one(found: FieldHelp) -> None:
    from config.help import all_fields

    print(found.key)
    print(f"  {found.description}")
    facts = [
        ("type", found.type),
        ("unit", found.unit),
        ("range", found.range),
        ("default", "none: it is required" if found.required else found.default_text),
        ("also", ", ".join(found.aliases)),
    ]
    for name, text in facts:
        if text:
            print(f"  {name:<8} {text}")
    if found.fields:
        print()
        _print_list([all_fields()[child] for child in found.fields])


def _print_list(fields: list[FieldHelp]) -> None:
    width = max(len(field.key) for field in fields)
    for field in fields:
        print(f"  {field.key:<{width}}  {field.description}")


def schema() -> int:
    """Print the JSON Schema of a config file."""
    from config.json_schema import file_schema

    print_json(file_schema())
    return 0
