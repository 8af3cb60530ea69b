"""The datasets that somebody works with: those of the list, and those that configs and runs name."""

from __future__ import annotations

from pathlib import Path

from backend.datasets.library import Entry, Library
from backend.datasets.uses import RunUse, last_configs, last_used, named_folders


def look_round(root: Path, project: Path) -> tuple[list[Entry], dict[Path, RunUse]]:
    """The library with what configs and runs name, and where each dataset was used last.

    A dataset that no run has used yet is known by the newest config that names it. Reads many files: call it
    in a thread.

    Args:
        root: The data folder.
        project: The folder in which configs are looked for.

    Raises:
        DatasetError, OSError: The list cannot be read or written.
    """
    from backend.configs.project import project_configs

    library = Library(root)
    configs = [entry.path for entry in project_configs(root, project).entries()]
    library.learn(named_folders(configs, root))
    entries = library.entries()
    paths = [entry.path for entry in entries]
    uses = last_used(paths, root)
    return entries, last_configs([path for path in paths if path not in uses], configs) | uses
