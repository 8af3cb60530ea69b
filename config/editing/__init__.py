"""Changing a config's text so that only the bytes of what was changed are others.

:mod:`config.editing.tree` knows where everything stands, :mod:`config.editing.scalars` writes values,
:mod:`config.editing.edits` makes the edits.
"""

from config.editing.edits import (
    Edited,
    add_item,
    move_item,
    remove,
    rename_key,
    reset,
    set_value,
)
from config.editing.errors import EditError, SharedValueError
from config.editing.tree import INSIDE, Edit, Path, Span, Tree, TreeError, apply, location, offset_of

__all__ = [
    "INSIDE",
    "Edit",
    "EditError",
    "Edited",
    "Path",
    "SharedValueError",
    "Span",
    "Tree",
    "TreeError",
    "add_item",
    "apply",
    "location",
    "move_item",
    "offset_of",
    "remove",
    "rename_key",
    "reset",
    "set_value",
]
