"""Radio button and checkbox whose state can be told without colour."""

from __future__ import annotations

from textual.widgets import Checkbox, RadioButton


class Radio(RadioButton):
    """Textual's, with a dot only where it is chosen."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802 - Textual's name
        """The dot, or nothing."""
        return "●" if self.value else " "


class Tick(Checkbox):
    """Textual's, with a cross only where it is chosen."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802 - Textual's name
        """The cross, or nothing."""
        return "X" if self.value else " "
