"""The base model's download in the cloud, as long as somebody watches it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tui.messages import OperationFailed
from tui.setup import Setup, SetupError
from tui.text import size

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.worker import Worker

_TITLE = "The base model was not downloaded"


class ModelDownload:
    """Starts the download and follows it; whoever stops following does not stop the download.

    Args:
        screen: Shows what happens.
        changed: Told whenever there is something new to show.
        ended: Told when the download is over, or not followed any more.

    Attributes:
        progress: How far it is, in words; empty while none is followed.
    """

    def __init__(self, screen: Screen[None], changed: Callable[[], None], ended: Callable[[], None]) -> None:
        self.progress = ""
        self._screen = screen
        self._changed = changed
        self._ended = ended
        self._worker: Worker[None] | None = None

    @property
    def going(self) -> bool:
        """Whether one is followed."""
        return self._worker is not None

    def start(self, setup: Setup, config: Path | None) -> None:
        """Begin, or wait for the one that goes on over there already."""
        if self._worker is not None:
            return
        self.progress = "starting a container without a GPU… · x stops waiting"
        self._worker = self._screen.run_worker(
            self._follow(setup, config), group="setup-download", exit_on_error=False
        )
        self._changed()

    def leave(self) -> None:
        """Follow it no more; it goes on."""
        if self._worker is not None:
            self._worker.cancel()
            self._screen.notify(
                "The download goes on in the cloud; look at the row again later.", markup=False
            )
            self._end()

    async def _follow(self, setup: Setup, config: Path | None) -> None:
        try:
            said = await setup.download_model(config, self._heard)
        except SetupError as error:
            self._screen.post_message(OperationFailed(_TITLE, str(error)))
        except Exception as error:  # a fault of ours; the user must hear of it all the same
            self._screen.post_message(OperationFailed(_TITLE, f"{type(error).__name__}: {error}"))
        else:
            self._screen.notify(said, title="Base model", markup=False)
        self._end()

    def _heard(self, done: int, total: int) -> None:
        part = (
            f"{size(done)} of {size(total)} ({100 * done // total} %)" if total else "asking what is missing"
        )
        self.progress = f"downloading in the cloud: {part} · x stops waiting"
        self._changed()

    def _end(self) -> None:
        self._worker, self.progress = None, ""
        self._ended()
