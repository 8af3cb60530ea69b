"""What the keys of a screen do with the one run that it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tui.screens.base import MainScreen

if TYPE_CHECKING:
    from tui.place_watch import Look


class RunKeys(MainScreen):
    """Base of a screen that shows one run; that screen binds the keys, and shows what comes of them."""

    def __init__(self) -> None:
        super().__init__()
        self._run_id: str | None = None
        self._place: Look | None = None  # what is known of the place where it trains

    def action_stop_run(self) -> None:
        """Stop this run."""
        if self._run_id:
            self.flux.actions.stop(self._run_id)

    def action_resume_run(self) -> None:
        """Resume this run."""
        if self._run_id:
            self.flux.actions.resume(self._run_id)

    def action_stop_now(self) -> None:
        """End this run without saving."""
        if self._run_id:
            self.flux.actions.stop(self._run_id, now=True)

    def action_ask_trainer(self, kind: Literal["save", "sample"]) -> None:
        """Have something done now."""
        if self._run_id:
            self.flux.actions.requests.ask(self._run_id, kind)

    def action_extend(self) -> None:
        """Change the number of steps."""
        if self._run_id:
            self.flux.actions.extend(self._run_id)

    def action_delete_run(self) -> None:
        """Delete this run."""
        if self._run_id:
            self.flux.actions.delete(self._run_id, self._deleted)

    def _deleted(self) -> None:
        self.flux.current_run = self._run_id = None
        self.app.call_later(self.flux.action_go, "jobs")

    def action_bring_home(self) -> None:
        """Download this run's LoRA and pictures, or stop doing so."""
        if self._run_id:
            downloads = self.flux.actions.downloads
            if downloads.get(self._run_id):
                downloads.cancel(self._run_id)
            else:
                downloads.start(self._run_id, self._show_samples)

    def action_add_gpus(self) -> None:
        """Wait for other GPUs too."""
        if self._run_id and self._place is not None:
            self.flux.actions.add_gpus(self._run_id, self._place.other_gpus)

    def _show_samples(self) -> None:
        """Pictures have come home."""
        raise NotImplementedError
