"""Why an edit is refused."""

from __future__ import annotations

from config.editing.tree import Path


class EditError(Exception):
    """The edit cannot be made; the message is one sentence, and the text is as it was."""


class SharedValueError(EditError):
    """The value has an anchor or stands behind an alias: changing it there changes other keys too.

    Attributes:
        paths: Those other keys.
    """

    def __init__(self, path: Path, paths: list[Path]) -> None:
        self.paths = paths
        others = ", ".join(shown(other) for other in paths[:3]) + (" ..." if len(paths) > 3 else "")
        super().__init__(f"{shown(path)} is shared by an anchor: changing it also changes {others}")


def shown(path: Path) -> str:
    """A path for people, without what every config has around the process."""
    inside = path[3:] if path[:3] == ("config", "process", 0) and len(path) > 3 else path
    return ".".join(map(str, inside))
