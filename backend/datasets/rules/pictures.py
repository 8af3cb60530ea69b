"""What can be wrong with a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from backend.datasets.problems import Severity
from backend.datasets.rules.registry import LintOptions, item_rule
from backend.datasets.scan import Item

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
}  # of formats that the trainer reads
CONVERTED = ("picture-animated", "picture-rotated", "picture-alpha", "picture-cmyk")
"""Rules about what training makes of a picture anyway: upright, RGB, one frame. Mending saves that."""

_CONVERT = "save it as training sees it, an upright RGB PNG; the original goes to the trash"
_EXTREME = 2.5  # width over height, or the other way round: SDXL's training went no further than 2.4
_ROTATED = {3: "upside down", 6: "on its side", 8: "on its side"}


@item_rule("picture-unreadable", Severity.ERROR, "a picture that cannot be read")
def unreadable(item: Item, _: LintOptions) -> Iterator[str]:
    """Empty, no picture, too many pixels, a broken link, no permission."""
    if item.problem is not None:
        yield f"{item.problem}; training leaves it out"


@item_rule("picture-truncated", Severity.ERROR, "a picture whose end is missing")
def truncated(item: Item, _: LintOptions) -> Iterator[str]:
    """The file ends before the picture does."""
    if item.header is not None and item.header.truncated:
        yield "is truncated: its end is missing; training leaves it out"


@item_rule("picture-animated", Severity.WARNING, "an animation", fix=_CONVERT)
def animated(item: Item, _: LintOptions) -> Iterator[str]:
    """More than one frame."""
    if item.header is not None and item.header.frames > 1:
        yield f"is animated ({item.header.frames} frames); only its first frame is trained"


@item_rule(
    "picture-extension",
    Severity.WARNING,
    "a name that does not fit the content",
    fix="give it the extension of its content",
    safe=True,
)
def extension(item: Item, _: LintOptions) -> Iterator[str]:
    """The extension says another format than the content."""
    if item.header is None:
        return
    suffix = os.path.splitext(item.name)[1].lower()
    wanted = SUFFIXES.get(item.header.format)
    if wanted is None:
        yield f"is named {suffix} and is a {item.header.format}; other programs may not read it"
    elif suffix not in wanted:
        yield f"is named {suffix} and is a {item.header.format}"


@item_rule("picture-small", Severity.WARNING, "a picture too small for the resolutions")
def small(item: Item, options: LintOptions) -> Iterator[str]:
    """Fewer pixels than a resolution wants."""
    size = item.size
    if size is None or not options.resolutions:
        return
    width, height = size
    least, most = min(options.resolutions), max(options.resolutions)
    what = f"{width}x{height}" + (" after its crop" if item.crop is not None else "")
    if width * height < least**2:
        yield f"is tiny: {what}, less than the smallest resolution ({least})"
    elif width * height < most**2 * 0.9:  # a few pixels short of it make no difference
        yield f"is small: {what}; at {most} it trains at its own size, about {math.isqrt(width * height)}"


@item_rule("picture-aspect", Severity.WARNING, "an extreme aspect ratio")
def aspect(item: Item, _: LintOptions) -> Iterator[str]:
    """Much longer than wide, or the other way round."""
    ratio = item.aspect
    if ratio is not None and max(ratio, 1 / ratio) > _EXTREME:
        shown = f"{ratio:.1f}:1" if ratio > 1 else f"1:{1 / ratio:.1f}"
        yield f"is very {'wide' if ratio > 1 else 'tall'} ({shown}); crop it, or it trains as a strip"


@item_rule("picture-rotated", Severity.INFO, "a picture turned by EXIF", fix=_CONVERT)
def rotated(item: Item, _: LintOptions) -> Iterator[str]:
    """An EXIF orientation; this trainer turns the picture, other programs may not."""
    if item.header is not None and item.header.orientation != 1:
        how = _ROTATED.get(item.header.orientation, "mirrored")
        yield f"is stored {how} and turned by EXIF; training turns it, other programs may not"


@item_rule("picture-alpha", Severity.INFO, "a picture with transparency", fix=_CONVERT)
def alpha(item: Item, _: LintOptions) -> Iterator[str]:
    """Transparency, which training drops."""
    if item.header is not None and item.header.alpha:
        yield "has transparency; training drops it, and what colour lies under it shows"


@item_rule("picture-cmyk", Severity.WARNING, "a picture in print colours", fix=_CONVERT)
def cmyk(item: Item, _: LintOptions) -> Iterator[str]:
    """CMYK, whose colours shift when they are made RGB."""
    if item.header is not None and item.header.mode == "CMYK":
        yield "is in CMYK, the colours of print; convert it to RGB and look whether the colours are right"


@item_rule(
    "crop-outside", Severity.WARNING, "a crop that does not fit its picture", fix="remove the crop", safe=True
)
def crop_outside(item: Item, _: LintOptions) -> Iterator[str]:
    """The picture was replaced by a smaller one after its crop was drawn."""
    header, crop = item.header, item.crop
    if header is not None and crop is not None and not crop.fits(header.width, header.height):
        yield (
            f"has a crop of {crop.width}x{crop.height} at {crop.left},{crop.top} that does not fit its "
            f"{header.width}x{header.height} pixels; training does not use it"
        )
