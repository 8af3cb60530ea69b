"""What a run of the config would take: time, memory, money, disk; and what would change it most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui.text import clip, duration, fit, one_line, plural, size

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from backend.estimate import Estimate, GpuEstimate, Lever


_NAME = 12  # cells of a GPU's name: RTX-PRO-6000


def money(dollars: float | None) -> str:
    """``$1.23``; a dash if it is not known."""
    return "–" if dollars is None else f"${dollars:,.2f}"  # noqa: RUF001 - a dash


def gpu_line(gpu: GpuEstimate) -> Content:
    """One GPU: name, time, money, memory."""
    if not gpu.fits:
        why = clip(gpu.why or "does not fit", 24)
        return Content.assemble((f"{fit(gpu.gpu, _NAME)} ", "dim"), (why, "dim"))
    return Content.assemble(
        (fit(gpu.gpu, _NAME), "bold"), " ",
        fit(duration(gpu.seconds), 8), " ",
        (f"{money(gpu.dollars):>8}", "$text-accent"), " ",
        (f"{gpu.memory_bytes / 2**30:.0f} GiB", "$text-muted"),
    )  # fmt: skip


def estimate_lines(estimate: Estimate, levers: Sequence[Lever], width: int) -> Content:
    """The whole panel's text."""
    lines: list[Any] = []
    pictures, epochs, each = (
        "?" if number is None else form.format(number)
        for number, form in (
            (estimate.pictures, "{:,}"),
            (estimate.epochs, "{:.1f}"),
            (estimate.steps_per_picture, "{:.0f}"),
        )
    )
    lines.append(
        Content.assemble(("Pictures ", "$text-muted"), pictures, ("   epochs ", "$text-muted"), epochs)
    )
    lines.append(Content.assemble(("Steps per picture ", "$text-muted"), each))
    for share in estimate.samples:
        text = f"{share.resolution:>5} px  {share.steps:>6,.0f} steps  {share.share:>4.0%}"
        lines.append(Content.styled(clip(text, width), "$text-muted"))
    lines.append(
        Content.assemble(
            ("Keeps ", "$text-muted"),
            plural(estimate.checkpoints, "checkpoint"),
            ", ",
            size(estimate.disk_bytes),
        )
    )
    lines.append(Content.assemble(("Draws ", "$text-muted"), plural(estimate.samples_drawn, "sample")))
    lines.append(Content(""))
    lines += [gpu_line(gpu) for gpu in estimate.gpus]
    lines.append(Content.styled(clip(f"prices of {estimate.prices_as_of}", width), "dim"))
    if estimate.gpus:
        lines.append(Content.styled(clip(f"speeds: {estimate.gpus[0].source}", width), "dim"))
    if levers:
        lines.append(Content(""))
        lines.append(Content.styled("What would change it most", "bold"))
        lines += [Content(one_line(lever.sentence)) for lever in levers[:3]]
    lines += [Content.styled(one_line(note), "dim") for note in estimate.notes]
    return Content("\n").join(lines)


class EstimatePane(VerticalScroll, can_focus=False):
    """The estimate, kept while the text cannot be read."""

    DEFAULT_CSS: ClassVar[str] = """
    EstimatePane {
        width: 42;
        height: 1fr;
        padding: 0 1;
        border: round $foreground 30%;
        border-title-color: $foreground;
        scrollbar-size-vertical: 1;
        & > Static { height: auto; }
        &.-stale > Static { opacity: 60%; }
    }
    """

    def compose(self) -> ComposeResult:
        """The text."""
        yield Static(Content.styled("Reckoning…", "dim"), markup=False)

    def on_mount(self) -> None:
        """Its title."""
        self.border_title = "Estimate"

    def show_estimate(
        self, estimate: Estimate | None, levers: Sequence[Lever] = (), problem: str = ""
    ) -> None:
        """Show an estimate; None while the config has errors: then the last one stays, marked."""
        text = self.query_one(Static)
        self.set_class(estimate is None, "-stale")
        if estimate is not None:
            text.update(estimate_lines(estimate, levers, max(20, self.content_size.width)))
            self.border_title = "Estimate"
        elif problem:
            text.update(Content.styled(one_line(problem), "$text-warning"))
        else:
            self.border_title = "Estimate (of before the errors)"
