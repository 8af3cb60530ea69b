"""Where runs train: one launcher a place, behind one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.launchers.base import Launcher
    from backend.runs.registry import Registry

BACKENDS = ("local", "modal")


def launcher_for(name: str, registry: Registry) -> Launcher:
    """The launcher called ``name``.

    Raises:
        LaunchError: There is none of that name.
    """
    from backend.launchers.base import LaunchError

    if name == "local":
        from backend.launchers.local import LocalLauncher

        return LocalLauncher(registry)
    if name == "modal":
        from backend.launchers.modal.launcher import ModalLauncher

        return ModalLauncher(registry)
    raise LaunchError(f"there is no backend {name!r} in this version; there is: {', '.join(BACKENDS)}")
