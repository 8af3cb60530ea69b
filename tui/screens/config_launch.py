"""The last look before a launch: what changed, what is wrong, what it may cost, and the name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, RadioButton, RadioSet, Static

from tui.configs.review import Review, free_name
from tui.runs.launch_cost import CostWords, ModalChoice, cost_words, overrides
from tui.runs.place import LABEL, is_stand_in
from tui.runs.status import RESUMABLE, is_live
from tui.screens.config_diff import change_lines
from tui.text import clip, duration, one_line, plural
from tui.widgets.config_problems import problem_line
from tui.widgets.radio import Radio

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.services import RunRow

_CHANGES = 12  # lines of each section at most
_RUNS = 12
_LEAST = 2  # lines of what is known in the smallest terminal


@dataclass(frozen=True)
class LaunchPlan:
    """What to start.

    Attributes:
        backend: ``local`` or ``modal``.
        overrides: ``key.path=value``, over what the file says.
        collision: With a run of the same name: ``new`` (the name is in the overrides), ``resume`` or
            ``replace``; empty without one.
        run_id: The run of the same name that is resumed or replaced.
    """

    backend: str
    overrides: tuple[str, ...] = ()
    collision: str = ""
    run_id: str = ""


def review_lines(review: Review, width: int) -> Content:
    """Changes, problems, pictures, sweep."""
    parts: list[Content] = []

    def head(title: str, note: str = "") -> None:
        if parts:
            parts.append(Content(""))
        parts.append(
            Content.assemble((title, "bold $text-accent"), (f"  {note}" if note else "", "$text-muted"))
        )

    if review.preset:
        head(f"Changed against preset {review.preset}", plural(len(review.changes), "key"))
        parts.append(change_lines(review.changes[:_CHANGES], width))
        if len(review.changes) > _CHANGES:
            parts.append(Content.styled(f"… and {len(review.changes) - _CHANGES} more", "dim"))
    head("Check")
    if not review.problems:
        parts.append(Content.styled("✓ no problems", "$text-success"))
    parts += [problem_line(problem) for problem in review.problems[:_CHANGES]]
    if review.datasets:
        head("Pictures")
        for data in review.datasets:
            if not data.found:
                parts.append(Content.styled(f"✗ {one_line(data.folder)} is not there", "$text-error"))
                continue
            missing = data.pictures - data.captions
            note = f", {missing} without caption" if missing else ", each with its caption"
            text = (
                f"{clip(data.folder, 40)}: {plural(data.pictures, 'picture')}{note if data.pictures else ''}"
            )
            parts.append(Content.styled(text, "" if data.pictures else "$text-error"))
            parts += [Content.styled(f"  {one_line(line)}", "$text-warning") for line in data.lint]
    head("Estimate")
    parts += [Content(one_line(words)) for words in review.estimate] or [Content.styled("none", "dim")]
    if review.sweep is not None:
        runs = review.sweep.runs
        head(f"Sweep: {plural(len(runs), 'run')}", " x ".join(review.sweep.axes))
        for run in runs[:_RUNS]:
            values = ", ".join(f"{key} {value}" for key, value in run.values.items())
            parts.append(Content(f"{clip(run.name, 34)}  {one_line(values)}"))
        if len(runs) > _RUNS:
            parts.append(Content.styled(f"… and {len(runs) - _RUNS} more", "dim"))
        parts.append(Content.styled(total_words(review), "bold"))
    return Content("\n").join(parts)


def total_words(review: Review) -> str:
    """What all runs of a sweep take together."""
    if review.sweep is None:
        return ""
    count = len(review.sweep.runs)
    if review.dollars is None or review.seconds is None:
        return f"{plural(count, 'run')}; the total cannot be told"
    money, time = review.dollars * count, duration(review.seconds * count)
    return f"together about ${money:,.2f} and {time} of GPU time"


class LaunchScreen(ModalScreen["LaunchPlan | None"], inherit_bindings=False):
    """The result is what to start, or None.

    Args:
        review: What is known.
        choice: What the config says of Modal.
        backend: What is chosen at first.
        has_token: Whether there is a way to Modal.
        taken: Names that runs have.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "launch", "Launch", id="launch.go", tooltip="Start it."),
        Binding("escape,ctrl+c", "cancel", "Cancel", id="launch.cancel", tooltip="Start nothing."),
        Binding("tab", "app.focus_next", "Next", show=False, id="launch.next", tooltip="The next line."),
        Binding("shift+tab", "app.focus_previous", "Previous", show=False, id="launch.previous",
                tooltip="The line before."),
        Binding("pagedown", "page(1)", "Page down", show=False, id="launch.page-down", tooltip="Read on."),
        Binding("pageup", "page(-1)", "Page up", show=False, id="launch.page-up", tooltip="Read back."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    LaunchScreen { align: center middle; }
    LaunchScreen > Vertical {
        width: 100; max-width: 98%; height: auto; max-height: 98%;
        padding: 0 2; border: round $border; border-title-style: bold; background: $surface;
        overflow-y: auto; scrollbar-size-vertical: 1;
    }
    LaunchScreen VerticalScroll { height: auto; min-height: 1; scrollbar-size-vertical: 1; }
    LaunchScreen #review { height: auto; }
    LaunchScreen RadioSet { layout: horizontal; width: 1fr; height: 1; margin-top: 1; }
    LaunchScreen Radio { width: auto; margin-right: 3; }
    LaunchScreen RadioSet:blur > Radio.-selected > .toggle--label { background: transparent; }
    LaunchScreen Radio.-on > .toggle--label { text-style: bold; }
    LaunchScreen #on-modal { height: auto; display: none; }
    LaunchScreen.-modal #on-modal { display: block; }
    LaunchScreen #at-once { height: auto; }
    LaunchScreen.-modal #at-once { display: none; }
    LaunchScreen Horizontal { height: 1; }
    LaunchScreen Label { width: auto; margin-right: 1; }
    LaunchScreen #gpus { width: 1fr; margin-right: 3; }
    LaunchScreen #budget { width: 10; }
    LaunchScreen #cost, LaunchScreen #token, LaunchScreen #said { height: auto; }
    LaunchScreen #said { color: $text-error; }
    LaunchScreen #collision { height: auto; }
    LaunchScreen #buttons { align-horizontal: right; margin-top: 1; }
    LaunchScreen Button { margin-left: 2; min-width: 12; }
    """

    def __init__(
        self, review: Review, choice: ModalChoice, *, backend: str, has_token: bool, taken: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self._review, self._choice, self._has_token = review, choice, has_token
        self._wanted = backend if has_token else "local"
        self._taken = list(taken)

    @property
    def _same(self) -> RunRow | None:
        return self._review.same_name[0] if self._review.same_name and self._review.sweep is None else None

    def compose(self) -> ComposeResult:
        """What is known, where, what it costs, the name, the answers."""
        review, same = self._review, self._same
        count = len(review.sweep.runs) if review.sweep is not None else 1
        place = LABEL.capitalize() if is_stand_in() else "Modal (cloud GPU)"
        with Vertical() as box:
            box.border_title = Content(one_line(f"Launch {review.name}"))
            with VerticalScroll(can_focus=False):
                yield Static(id="review", markup=False)
            yield RadioSet(
                Radio("This machine", value=self._wanted != "modal", id="local"),
                Radio(place, value=self._wanted == "modal", id="modal", disabled=not self._has_token),
                compact=True, id="place",
            )  # fmt: skip
            if not self._has_token:
                yield Static(
                    Content.styled("For Modal, first in a terminal: fluxlora-tui login modal", "dim"),
                    id="token",
                )
            if count > 1:
                yield Static(
                    Content.styled(
                        f"On this machine all {count} runs start at once and share its GPU and memory.",
                        "$text-warning",
                    ),
                    id="at-once",
                )
            with Vertical(id="on-modal"):
                with Horizontal():
                    yield Label("GPUs in order:")
                    yield Input(self._choice.gpus, compact=True, id="gpus")
                    yield Label("Budget $:")
                    yield Input(self._choice.budget, compact=True, id="budget", placeholder="no limit")
                yield Static(id="cost", markup=False)
            if same is not None:
                with Vertical(id="collision"):
                    yield Static(
                        Content.styled(
                            f"There is a run {clip(same.name, 40)} already; it is {same.status}.",
                            "$text-warning",
                        )
                    )
                    yield RadioSet(
                        Radio("Another name", value=True, id="new"),
                        Radio("Resume that one", id="resume", disabled=same.status not in RESUMABLE),
                        Radio("Replace it", id="replace", disabled=is_live(same.status)),
                        compact=True, id="how",
                    )  # fmt: skip
                    with Horizontal(id="name-line"):
                        yield Label("Name:")
                        yield Input(free_name(review.name, self._taken), compact=True, id="name")
            yield Static(id="said", markup=False)
            with Horizontal(id="buttons"):
                words = "Launch (f5)" if count == 1 else f"Launch {count} (f5)"
                yield Button(Content(words), id="go", variant="primary", compact=True, action="screen.launch")
                yield Button(Content("Cancel (esc)"), id="no", compact=True, action="screen.cancel")

    def on_mount(self) -> None:
        """One key launches."""
        self.set_class(self._wanted == "modal", "-modal")
        self.query_one("#review", Static).update(
            review_lines(self._review, min(100, self.app.size.width) - 10)
        )
        self.query_one("#go", Button).focus()
        self._reckon()
        self.call_after_refresh(self._fit)

    def on_resize(self) -> None:
        """Another height."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        """What is read gives way to what is answered: the answers are always seen."""
        box = self.query_one(Vertical)
        known = box.query_one(VerticalScroll)
        others = sum(
            child.outer_size.height + child.styles.margin.top
            for child in box.children
            if child is not known and child.display
        )
        known.styles.max_height = max(_LEAST, int(self.size.height * 0.98) - box.gutter.height - others)
        self.call_after_refresh(self.query_one("#go", Button).scroll_visible, animate=False)

    @on(RadioSet.Changed, "#place")
    def _place_changed(self) -> None:
        self.set_class(self._backend == "modal", "-modal")
        self._say("")
        self._reckon()
        self.call_after_refresh(self._fit)

    @on(RadioSet.Changed, "#how")
    def _how_changed(self) -> None:
        self.query_one("#name-line").display = self._how == "new"
        self._say("")
        self.call_after_refresh(self._fit)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._say("")
        if event.input.id != "name":
            self._reckon()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.action_launch()

    @property
    def _backend(self) -> str:
        return "modal" if self.query_one("#modal", RadioButton).value else "local"

    @property
    def _how(self) -> str:
        if self._same is None:
            return ""
        pressed = self.query_one("#how", RadioSet).pressed_button
        return (pressed.id if pressed is not None else None) or "new"

    @property
    def _typed_choice(self) -> ModalChoice:
        return replace(
            self._choice,
            gpus=self.query_one("#gpus", Input).value,
            budget=self.query_one("#budget", Input).value,
        )

    @work(exclusive=True, group="reckon", exit_on_error=False)
    async def _reckon(self) -> None:
        self._words = words = await asyncio.to_thread(cost_words, self._typed_choice)
        count = len(self._review.sweep.runs) if self._review.sweep is not None else 1
        lines = [
            Content.styled(one_line(text), style)
            for text, style in (
                (
                    words.text + (f" · each of {count} runs" if count > 1 and words.text else ""),
                    "$text-muted",
                ),
                (words.problem, "$text-error"),
                (words.warning, "$text-warning"),
            )
            if text
        ]
        self.query_one("#cost", Static).update(Content("\n").join(lines))
        self.call_after_refresh(self._fit)

    _words = CostWords()

    def _say(self, sentence: str) -> None:
        self.query_one("#said", Static).update(Content(sentence))
        self.call_after_refresh(self._fit)

    def action_page(self, by: int) -> None:
        """Scroll what is known."""
        pane = self.query_one(VerticalScroll)
        pane.scroll_relative(y=by * max(1, pane.size.height - 1), animate=False)

    def action_cancel(self) -> None:
        """Start nothing."""
        self.dismiss(None)

    def action_launch(self) -> None:
        """Start it, unless something is in the way."""
        how, same, changes = self._how, self._same, list[Any]()
        if how == "resume" and same is not None:
            self.dismiss(LaunchPlan(same.backend, (), "resume", same.id))
            return
        if self._review.errors:
            self._say(f"{plural(self._review.errors, 'error')} must be mended first: esc, then f8.")
            return
        if self._backend == "modal":
            if self._words.problem:
                self._say(self._words.problem)
                return
            changes += overrides(self._typed_choice, self._choice)
        if how == "new":
            name = self.query_one("#name", Input).value.strip()
            if not name or name in self._taken:
                self._say("Type a name that no run has yet." if name else "Type a name.")
                self.query_one("#name", Input).focus()
                return
            if name != self._review.name:
                changes.append(f"config.name={quoted(name)}")
        self.dismiss(LaunchPlan(self._backend, tuple(changes), how, same.id if same is not None else ""))


def quoted(name: str) -> str:
    """A name as a YAML string, whatever it looks like."""
    import json

    return json.dumps(name, ensure_ascii=False)
