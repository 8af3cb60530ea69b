"""Commands on LoRA files: ``inspect``, ``convert``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.cli.main import fail
from tui.cli.report import absolute, print_json, printable

if TYPE_CHECKING:
    from backend.lora.inspect import LoraReport

_LONGEST = 100  # characters of a metadata string that are shown
_MOST_PROBLEMS = 10


def inspect(path: str, *, as_json: bool) -> int:
    """Print what a LoRA file is; 0 if it is sound, 1 if it is broken, 2 if it is no LoRA file."""
    from backend.lora.inspect import inspect_lora

    def work(file: Path) -> int:
        report = inspect_lora(file)
        if as_json:
            print_json(report.record())
        else:
            _print_report(report)
        return 1 if report.problems else 0

    return _with_file(path, work)


def convert(path: str, target: str, output: str | None) -> int:
    """Write a LoRA file in another dialect; 2 if it cannot be done without loss."""
    from backend.lora.convert import TARGETS, convert_file

    def work(file: Path) -> int:
        wanted = next(known for known in TARGETS if known == target)
        written, notes = convert_file(file, wanted, absolute(output) if output else None)
        print(_line(str(written)))
        for note in notes:
            fail(f"note: {_line(note)}", 0)
        return 0

    return _with_file(path, work)


def _with_file(path: str, work: Callable[[Path], int]) -> int:
    from backend.lora.file import LoraError

    try:
        file = absolute(path)
        if file.is_dir():
            return fail(f"{_line(str(file))} is a folder, not a LoRA file", 2)
        return work(file)
    except LoraError as error:
        return fail(_line(str(error)), 2)
    except (FileNotFoundError, PermissionError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        return fail(f"{_line(path)}: {reason}", 2)


def _print_report(report: LoraReport) -> None:
    names = " and ".join(f"{dialect} names" for dialect in report.dialects) or "names that are not FLUX.1's"
    text = f", {report.text_encoder_modules} of them on CLIP-L" if report.text_encoder_modules else ""
    rows: list[tuple[str, str]] = [
        ("file", f"{report.path} ({_size(report.size)})"),
        ("title", report.title or ""),
        ("kind", f"{report.kind}, {names}"),
        ("base model", report.base_model),
        ("rank", _counts(report.ranks)),
        ("alpha", _counts(report.alphas) or "none, so the scale is 1"),
        ("numbers", _counts(report.dtypes)),
        ("modules", f"{report.modules}{text}; {report.parameters:,} parameters"),
        ("trigger", report.trigger or ""),
        ("steps", "" if report.steps is None else str(report.steps)),
        ("epoch", "" if report.epoch is None else str(report.epoch)),
        ("made by", report.software or ""),
        ("config", "embedded; --json prints it" if report.config is not None else ""),
    ]
    _print_rows((name, value) for name, value in rows if value)
    print("works in")
    _print_rows(
        (f"  {verdict.reader}", f"{verdict.works}{f' ({verdict.reason})' if verdict.reason else ''}")
        for verdict in report.works_in
    )
    if report.metadata:
        print("metadata")
        _print_rows((f"  {key}", value) for key, value in sorted(report.metadata.items()))
    if not report.problems:
        print("sound: all matrices are in pairs, all numbers are finite, and not all of B is zero")
    for problem in report.problems[:_MOST_PROBLEMS]:
        fail(_line(problem), 1)
    if len(report.problems) > _MOST_PROBLEMS:
        fail(f"and {len(report.problems) - _MOST_PROBLEMS} more problems; --json lists them", 1)


def _print_rows(rows: Iterable[tuple[str, str]]) -> None:
    shown = [(_line(name, 60), value) for name, value in rows]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        longest = _LONGEST if name.startswith("  ") else 10 * _LONGEST
        print(f"{name:<{width}}  {_line(value, longest)}")


def _counts(found: Mapping[Any, int]) -> str:
    """``16`` or, where they differ, ``16 (456 times), 64 (38 times)``."""
    if len(found) == 1:
        return _number(next(iter(found)))
    shown = [f"{_number(value)} ({count} times)" for value, count in list(found.items())[:6]]
    return ", ".join([*shown, "..."] if len(found) > len(shown) else shown)


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count:,} bytes"


def _line(text: str, longest: int = 1000) -> str:
    """Text as one safe line of a terminal: no control characters, not too long."""
    start = printable(text[:longest])
    return start if len(text) <= longest else f"{start}... ({len(text):,} characters)"
