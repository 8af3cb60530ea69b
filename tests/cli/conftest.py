from __future__ import annotations

import pytest

from tui.cli.main import run


class Output:
    """Runs a command line in this process; gives its exit code and what it printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._capfd.readouterr()
        code = run(arguments)
        out, err = self._capfd.readouterr()
        return code, out, err


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Output:
    return Output(capfd)
