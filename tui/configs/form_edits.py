"""What the keys of the form do, as functions of the text as it is at that moment. Slow: use a thread.

Each takes the text and the key of a field, and gives back the edit of the text. A key that is
pressed twice quickly so counts twice, whatever the screen has shown in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config.editing import Edited
    from config.form import Field

# text, is_json, everywhere -> the edit; None if nothing changes
Operation = Callable[[str, bool, bool], "Edited | None"]


def field_of(text: str, key: str, *, is_json: bool = False) -> Field:
    """A field by its key, as the text has it.

    Raises:
        EditError: There is none, or the text cannot be parsed.
    """
    from config.editing import EditError
    from config.form import groups

    for group in groups(text, is_json=is_json):
        for field in group.fields:
            if field.key == key:
                return field
    raise EditError(f"there is no {key} any more")


def set_to(key: str, value: Any) -> Operation:
    """Set a field."""

    def run(text: str, is_json: bool, everywhere: bool) -> Edited | None:
        from config.form import edit

        field = field_of(text, key, is_json=is_json)
        if field.is_set and field.value == value and type(field.value) is type(value):
            return None
        return edit(text, field, value, is_json=is_json, everywhere=everywhere)

    return run


def typed(key: str, words: str) -> Operation:
    """Set a field to what was typed; raises ValueError with a sentence if that is no value for it."""

    def run(text: str, is_json: bool, everywhere: bool) -> Edited | None:
        from config.form import parse_value

        field = field_of(text, key, is_json=is_json)
        return set_to(key, parse_value(field, words))(text, is_json, everywhere)

    return run


def stepped(key: str, direction: int, *, big: bool = False) -> Operation:
    """Step a number on its scale, cycle an enum, flip a boolean."""

    def run(text: str, is_json: bool, everywhere: bool) -> Edited | None:
        from config.form import step

        field = field_of(text, key, is_json=is_json)
        return set_to(key, step(field, direction, big=big))(text, is_json, everywhere)

    return run


def reset(key: str) -> Operation:
    """Take the key out of the file, so that the default counts."""

    def run(text: str, is_json: bool, everywhere: bool) -> Edited | None:
        from config.form import reset_field

        field = field_of(text, key, is_json=is_json)
        return reset_field(text, field, is_json=is_json) if field.is_set else None

    return run


def dataset(folder: str) -> Operation:
    """Another dataset."""

    def run(text: str, is_json: bool, everywhere: bool) -> Edited | None:
        from config.form import add_dataset

        return add_dataset(text, folder, is_json=is_json)

    return run


def item_added(key: str, value: str, at: int) -> Operation:
    """Another item of a list, such as a prompt."""

    def run(text: str, is_json: bool, everywhere: bool) -> Edited | None:
        from config.editing import add_item

        field = field_of(text, key, is_json=is_json)
        if not field.is_set or not isinstance(field.value, list) or not field.value:
            return set_to(key, [value])(text, is_json, everywhere)
        return add_item(text, field.path, value, at, is_json=is_json)

    return run


def item_set(key: str, index: int, value: str) -> Operation:
    """One item of a list changed."""

    def run(text: str, is_json: bool, everywhere: bool) -> Edited | None:
        from config.editing import set_value

        path = (*field_of(text, key, is_json=is_json).path, index)
        return set_value(text, path, value, is_json=is_json, everywhere=everywhere)

    return run


def item_removed(key: str, index: int) -> Operation:
    """One item of a list taken out."""

    def run(text: str, is_json: bool, everywhere: bool) -> Edited | None:
        from config.editing import remove

        field = field_of(text, key, is_json=is_json)
        if isinstance(field.value, list) and len(field.value) == 1:
            return set_to(key, [])(text, is_json, everywhere)
        return remove(text, (*field.path, index), is_json=is_json)

    return run


def item_moved(key: str, index: int, to: int) -> Operation:
    """One item of a list to another place."""

    def run(text: str, is_json: bool, everywhere: bool) -> Edited | None:
        from config.editing import move_item

        path = (*field_of(text, key, is_json=is_json).path, index)
        return move_item(text, path, to, is_json=is_json)

    return run
