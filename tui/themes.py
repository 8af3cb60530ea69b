"""The colour themes that come on top of Textual's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui.messages import OperationFailed
from tui.settings import DEFAULT_THEME, save_setting

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import App
    from textual.theme import Theme

# What people write in a settings file for "the terminal's own sixteen colours".
ALIASES = {"ansi": "ansi-dark", "dark": "textual-dark", "light": "textual-light"}
HIGH_CONTRAST = "high-contrast"


def register_themes(app: App[Any]) -> None:
    """Make the app's own themes known to ``app``."""
    from textual.theme import Theme

    app.register_theme(
        Theme(
            name=HIGH_CONTRAST,
            primary="#7fd7ff",
            secondary="#ffd75f",
            accent="#ffd75f",
            warning="#ffd700",
            error="#ff8787",
            success="#5fff87",
            foreground="#ffffff",
            background="#000000",
            surface="#000000",
            panel="#1c1c1c",
            boost="#262626",
            dark=True,
            text_alpha=1.0,
            variables={
                "border": "#ffffff",
                "border-blurred": "#9e9e9e",
                "block-cursor-background": "#ffff5f",
                "block-cursor-foreground": "#000000",
                "footer-key-foreground": "#ffff5f",
                "text-muted": "#dadada",
                "text-disabled": "#bcbcbc",
            },
        )
    )


def resolve_theme(name: str, available: object) -> str | None:
    """The registered theme that ``name`` means; None if there is none.

    Args:
        name: A theme's name, or one of ``ALIASES``.
        available: A container of registered names.
    """
    resolved = ALIASES.get(name, name)
    return resolved if resolved in available else None  # type: ignore[operator]


class ThemeChoice:
    """Applies the user's theme and remembers a new choice in the settings file.

    Args:
        app: The app; its themes must be registered.
        path: The settings file.
        chosen: The theme that it names.
    """

    def __init__(self, app: App[Any], path: Path, chosen: str) -> None:
        self._app = app
        self._path = path
        self._chosen = chosen

    def apply(self) -> str | None:
        """Use the chosen theme; returns what is wrong with it, if something is."""
        theme = resolve_theme(self._chosen, self._app.available_themes)
        self._app.theme = theme or DEFAULT_THEME
        if theme is not None:
            return None
        unknown, self._chosen = self._chosen, DEFAULT_THEME
        return f"{self._path}: theme: there is no theme {unknown!r}; press t to choose one."

    def follow(self) -> None:
        """Remember every theme that is chosen from now on."""
        self._app.theme_changed_signal.subscribe(self._app, self._changed)

    def _changed(self, theme: Theme) -> None:
        if resolve_theme(self._chosen, self._app.available_themes) == theme.name:
            return
        self._chosen = theme.name
        self._app.run_worker(self._save, thread=True, group="settings", exit_on_error=False)

    def _save(self) -> None:
        try:
            save_setting(self._path, "theme", self._chosen)
        except (OSError, ValueError) as error:
            self._app.post_message(OperationFailed("The theme was not saved", str(error)))
