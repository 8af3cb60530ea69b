"""The newest sample pictures, side by side; older ones a key away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from tui.text import clip, one_line
from tui.widgets.picture import make_picture

if TYPE_CHECKING:
    from textual import events
    from textual.widget import Widget

    from backend.events import SampleEvent
    from tui.terminal import Protocol

_CARD = 18  # cells that a picture needs at least
_LOOK = 1.0  # seconds between two looks for pictures that have not come yet
_MOST = 6  # pictures side by side; more could not be told apart


def by_step(samples: Iterable[SampleEvent]) -> list[tuple[int, tuple[SampleEvent, ...]]]:
    """Samples grouped by step, oldest step first, in the order of their prompts."""
    groups: dict[int, dict[int, SampleEvent]] = {}
    for sample in samples:
        groups.setdefault(sample.step, {})[sample.index] = sample
    return [(step, tuple(group[i] for i in sorted(group))) for step, group in sorted(groups.items())]


class SampleCard(Vertical):
    """A picture over its prompt."""

    DEFAULT_CSS = """
    SampleCard {
        width: 1fr;
        height: 1fr;
        padding: 0 1 0 0;
        & > .prompt {
            height: 1;
            color: $text-muted;
            text-align: center;
            text-wrap: nowrap;
            text-overflow: ellipsis;
        }
    }
    """

    def __init__(self, protocol: Protocol, *, forced: bool) -> None:
        super().__init__()
        self._picture = make_picture(protocol, forced=forced)
        self._prompt = Static(classes="prompt", markup=False)
        self._path: Path | None = None
        self._waits = False  # for its file: a run elsewhere tells of a picture before that has come home

    def compose(self) -> Iterable[Widget]:
        """The picture over its prompt."""
        yield self._picture
        yield self._prompt

    def show_sample(self, sample: SampleEvent, folder: Path) -> None:
        """Show one sample of the run in ``folder``."""
        self._prompt.update(Content(one_line(sample.prompt) or "(no prompt)"))
        self.tooltip = Content(f"seed {sample.seed} · {clip(sample.prompt, 300)}")
        path = (folder / sample.path).resolve()
        # A run's events may come from elsewhere; they name pictures of their own folder only.
        self._path = path if path.is_relative_to(folder.resolve()) else folder / "?"
        self._waits = not self._path.is_file()
        self._picture.show_picture(self._path)

    def look_again(self) -> None:
        """Show the picture if its file has come in the meantime."""
        if self._waits and self._path is not None and self._path.is_file():
            self._waits = False
            self._picture.show_picture(self._path, again=True)


class Samples(Horizontal, can_focus=True):
    """Pictures of one step; left and right go through the steps."""

    HELP: ClassVar[str] = (
        "The pictures that the run has drawn of its prompts, the newest step first seen. "
        "Going back to an older step holds it there until you come back to the newest."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "older", "Older", id="samples.older", tooltip="Pictures of the step before."),
        Binding("right,l", "newer", "Newer", id="samples.newer", tooltip="Pictures of the next step."),
        Binding("home", "first", "First", show=False, id="samples.first", tooltip="The first pictures."),
        Binding(
            "end", "newest", "Newest", show=False, id="samples.newest", tooltip="The newest, as they come."
        ),
    ]
    DEFAULT_CSS = """
    Samples {
        height: 12;
        border: round $foreground 30%;
        border-title-color: $foreground;
        border-subtitle-color: $text-muted;
        &:focus { border: round $primary; border-title-style: bold; }
        &:nocolor:focus { border: heavy $primary; }
        & > #no-samples { width: 1fr; height: 1fr; content-align: center middle; color: $text-muted; }
    }
    """

    def __init__(self, protocol: Protocol, *, forced: bool = False) -> None:
        super().__init__(id="samples")
        self.border_title = "Samples"
        self._protocol = protocol
        self._forced = forced
        self._folder = Path()
        self._groups: list[tuple[int, tuple[SampleEvent, ...]]] = []
        self._held: int | None = None  # a step that the user went back to

    def on_mount(self) -> None:
        """Pictures may come after the events that tell of them."""
        self.set_interval(_LOOK, self._look_again)

    def _look_again(self) -> None:
        for card in self.query(SampleCard):
            card.look_again()

    def compose(self) -> Iterable[Widget]:
        """Nothing yet."""
        yield Static("no samples yet", id="no-samples", markup=False)

    @property
    def has_samples(self) -> bool:
        """Whether there is anything to show."""
        return bool(self._groups)

    def show_samples(self, folder: Path, samples: Sequence[SampleEvent]) -> None:
        """Show the samples of the run in ``folder``."""
        if folder != self._folder:
            self._held = None
        groups = by_step(samples)
        if (folder, groups) == (self._folder, self._groups):
            return
        self._folder, self._groups = folder, groups
        self._show()

    @property
    def _position(self) -> int:
        if self._held is not None:
            for position, (step, _) in enumerate(self._groups):
                if step == self._held:
                    return position
        return len(self._groups) - 1

    def on_resize(self, event: events.Resize) -> None:
        """Another width may hold another number of pictures."""
        self._show()

    def _show(self) -> None:
        cards = list(self.query(SampleCard))
        self.query_one("#no-samples").display = not self._groups
        if not self._groups:
            for card in cards:
                card.remove()
            self.border_subtitle = ""
            return
        position = self._position
        step, samples = self._groups[position]
        room = max(1, min(_MOST, self.content_size.width // _CARD))
        shown = samples[:room]
        for card in cards[len(shown) :]:
            card.remove()
        while len(cards) < len(shown):
            cards.append(SampleCard(self._protocol, forced=self._forced))
            self.mount(cards[-1])
        for card, sample in zip(cards, shown, strict=False):
            card.show_sample(sample, self._folder)
        self.border_title = f"Samples of step {step}"
        more = f"{len(shown)} of {len(samples)} · " if len(shown) < len(samples) else ""
        self.border_subtitle = f"{more}{position + 1}/{len(self._groups)}"

    def _go(self, position: int) -> None:
        if not self._groups:
            return
        position = max(0, min(position, len(self._groups) - 1))
        self._held = None if position == len(self._groups) - 1 else self._groups[position][0]
        self._show()

    def action_older(self) -> None:
        """One step back."""
        self._go(self._position - 1)

    def action_newer(self) -> None:
        """One step on."""
        self._go(self._position + 1)

    def action_first(self) -> None:
        """To the first pictures."""
        self._go(0)

    def action_newest(self) -> None:
        """To the newest pictures, and stay there."""
        self._go(len(self._groups) - 1)
