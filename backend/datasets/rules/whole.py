"""What can be wrong with a dataset as a whole."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

from backend.datasets.problems import Severity
from backend.datasets.rules.registry import Dataset, LintOptions, plural, whole_rule

FEW = 10  # below this a LoRA mostly learns the pictures by heart
_MANY = 8  # pictures from which shares of shapes say something
_UNEVEN = 0.8


@whole_rule(
    "duplicate-exact",
    Severity.WARNING,
    "the same picture more than once",
    fix="exclude all but the first from training",
    safe=True,
)
def exact(dataset: Dataset, _: LintOptions) -> Iterator[tuple[str, str]]:
    """The same file more than once; one that is excluded does not count."""
    used = {item.name for item in dataset.used}
    for group in dataset.duplicates.exact:
        names = [name for name in group if name in used]
        for name in names[1:]:
            yield name, f"is the same file as {names[0]}"


@whole_rule("duplicate-near", Severity.WARNING, "pictures that look the same")
def near(dataset: Dataset, _: LintOptions) -> Iterator[tuple[str, str]]:
    """Scaled, saved again, or slightly changed."""
    used = {item.name for item in dataset.used}
    for group in dataset.duplicates.near:
        names = [name for name in group if name in used]
        for name in names[1:]:
            yield name, f"looks almost like {names[0]}; keep the better one"


@whole_rule("stem-shared", Severity.WARNING, "two pictures that share a caption")
def stem_shared(dataset: Dataset, _: LintOptions) -> Iterator[tuple[str, str]]:
    """The same name with two extensions: both use one caption file; one that is excluded does not count."""
    stems: dict[str, list[str]] = defaultdict(list)
    for item in dataset.items:
        if not item.excluded:
            stems[os.path.splitext(item.name)[0]].append(item.name)
    for names in stems.values():
        for name in sorted(names)[1:]:
            yield name, f"shares its caption with {sorted(names)[0]}: the names differ in the extension only"


@whole_rule("aspect-mix", Severity.INFO, "very uneven shapes")
def aspect_mix(dataset: Dataset, _: LintOptions) -> Iterator[tuple[str, str]]:
    """Nearly all pictures of one shape, with a few of another."""
    aspects = [item.aspect for item in dataset.used if item.aspect is not None]
    if len(aspects) < _MANY:
        return
    kinds = {
        "tall": sum(aspect < 0.9 for aspect in aspects),
        "square": sum(0.9 <= aspect <= 1.1 for aspect in aspects),
        "wide": sum(aspect > 1.1 for aspect in aspects),
    }
    kind, count = max(kinds.items(), key=lambda entry: entry[1])
    if _UNEVEN <= count / len(aspects) < 1:
        rest = ", ".join(f"{number} {other}" for other, number in kinds.items() if number and other != kind)
        yield (
            "",
            f"{count} of {len(aspects)} pictures are {kind}, {rest}: other shapes will be learned less well",
        )


@whole_rule("too-few", Severity.WARNING, "too few pictures")
def too_few(dataset: Dataset, _: LintOptions) -> Iterator[tuple[str, str]]:
    """Fewer than ten."""
    count = len(dataset.used)
    if not count:
        yield "", "there is no picture to train on"
    elif count < FEW:
        verb = "is" if count == 1 else "are"
        yield "", f"there {verb} only {plural(count, 'picture')}; {FEW} or more learn better"
