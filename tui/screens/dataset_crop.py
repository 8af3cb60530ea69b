"""Choosing the part of a picture that is trained on, by keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from backend.datasets.bucketing import frames
from backend.datasets.sidecar import Box
from tui.pictures.crop_box import CropBox
from tui.terminal import current_protocol
from tui.text import clip
from tui.widgets.half_cells import Frame
from tui.widgets.picture import make_picture

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from backend.datasets.scan import Item
    from tui.app import FluxLoraApp
    from tui.datasets.session import Training


@dataclass(frozen=True)
class Cropped:
    """The part that was chosen; None for the whole picture."""

    box: Box | None


class CropScreen(ModalScreen[Cropped | None], inherit_bindings=False):
    """The result is the crop, or None if nothing is to change.

    Args:
        item: The picture; its header is known.
        training: How it is trained, for the buckets below.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", "Keep", id="crop.keep", tooltip="Keep this crop."),
        Binding("escape,q,ctrl+c", "cancel", "Cancel", id="crop.cancel", tooltip="Change nothing."),
        Binding("left,h", "move(-1,0)", "Left", show=False, id="crop.left", tooltip="Move left."),
        Binding("right,l", "move(1,0)", "Right", show=False, id="crop.right", tooltip="Move right."),
        Binding("up,k", "move(0,-1)", "Up", show=False, id="crop.up", tooltip="Move up."),
        Binding("down,j", "move(0,1)", "Down", show=False, id="crop.down", tooltip="Move down."),
        Binding(
            "shift+left,H", "resize(-1,0)", "Narrower", show=False, id="crop.narrower", tooltip="Narrower."
        ),
        Binding("shift+right,L", "resize(1,0)", "Wider", show=False, id="crop.wider", tooltip="Wider."),
        Binding("shift+up,K", "resize(0,-1)", "Lower", show=False, id="crop.lower", tooltip="Less high."),
        Binding("shift+down,J", "resize(0,1)", "Higher", show=False, id="crop.higher", tooltip="Higher."),
        Binding(
            "plus,equals_sign", "zoom(1)", "Larger", show=False, id="crop.larger", tooltip="Larger all round."
        ),
        Binding("minus", "zoom(-1)", "Smaller", show=False, id="crop.smaller", tooltip="Smaller all round."),
        Binding("a", "shape(1)", "Shape", id="crop.shape", tooltip="The next proportions: 1:1, 4:5, 3:4, …"),
        Binding(
            "A", "shape(-1)", "Shape back", show=False, id="crop.shape-back", tooltip="Proportions before."
        ),
        Binding("c", "centre", "Centre", show=False, id="crop.centre", tooltip="To the middle."),
        Binding("f", "fine", "Fine steps", id="crop.fine", tooltip="Steps of one pixel, or large ones."),
        Binding("r", "whole", "Whole", id="crop.whole", tooltip="The whole picture: no crop."),
    ]
    DEFAULT_CSS = """
    CropScreen { align: center middle; }
    CropScreen > Vertical {
        width: 100%;
        height: 100%;
        border: round $primary;
        border-title-style: bold;
        background: $surface;
    }
    CropScreen #crop-facts { height: auto; }
    CropScreen #crop-hint { height: auto; color: $text-muted; }
    """

    def __init__(self, item: Item, training: Training) -> None:
        super().__init__()
        assert item.header is not None
        self._item, self._training = item, training
        size = (item.header.width, item.header.height)
        self.box = CropBox.whole(size)
        if item.crop is not None and item.crop.fits(*size):
            self.box = CropBox(size, *item.crop)
        self._fine = False

    def compose(self) -> ComposeResult:
        """The picture with the box on it, and what comes of it."""
        setting = cast("FluxLoraApp", self.app).settings.images
        protocol = current_protocol(setting)
        with Vertical() as frame:
            frame.border_title = Content(f"Crop of {clip(self._item.name, 50)}")
            if protocol != "off":
                yield make_picture(protocol, forced=setting in ("kitty", "sixel"))
            yield Static(id="crop-facts", markup=False)
            yield Static(
                Content(
                    "arrows move · shift+arrows (H J K L) resize · + - all round · a proportions · "
                    "c centre · f fine · r whole · enter keeps · esc cancels"
                ),
                id="crop-hint",
            )

    def on_mount(self) -> None:
        """Draw it."""
        self._show()

    def _show(self) -> None:
        box = self.box
        width, height = box.picture
        frame = Frame(
            box.left / width,
            box.top / height,
            (box.left + box.width) / width,
            (box.top + box.height) / height,
        )
        for picture in self.query("HalfCellPicture, GraphicsPicture"):
            picture.show_picture(self._item.path, frame=frame)  # type: ignore[attr-defined]
        crop = Box(box.left, box.top, box.width, box.height)
        buckets = frames(width, height, self._training.resolutions, self._training.kind, crop)
        words = "whole picture" if box.is_whole else f"{box.width}x{box.height} at {box.left},{box.top}"
        self.query_one("#crop-facts", Static).update(
            Content.assemble(
                (words, "bold"),
                f" of {width}x{height} · {box.width / box.height:.2f} · held to {box.shape.name}",
                f" · {'fine' if self._fine else 'large'} steps",
                "\ntrains as ",
                " ".join(str(frame.bucket) for frame in buckets),
            )
        )

    def _set(self, box: CropBox) -> None:
        if box != self.box:
            self.box = box
            self._show()

    def action_move(self, right: int, down: int) -> None:
        """Move the box."""
        self._set(self.box.move(right, down, fine=self._fine))

    def action_resize(self, wider: int, taller: int) -> None:
        """Move its right and lower edges."""
        self._set(self.box.resize(wider, taller, fine=self._fine))

    def action_zoom(self, steps: int) -> None:
        """Grow or shrink it around its middle."""
        self._set(self.box.zoom(steps, fine=self._fine))

    def action_shape(self, way: int) -> None:
        """Hold it to other proportions."""
        self._set(self.box.next_shape(way))

    def action_centre(self) -> None:
        """To the middle."""
        self._set(self.box.centre())

    def action_whole(self) -> None:
        """No crop."""
        self._set(CropBox.whole(self.box.picture))

    def action_fine(self) -> None:
        """Other steps."""
        self._fine = not self._fine
        self._show()

    def action_keep(self) -> None:
        """Close with the box."""
        box = self.box
        chosen = None if box.is_whole else Box(box.left, box.top, box.width, box.height)
        self.dismiss(Cropped(chosen))

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
