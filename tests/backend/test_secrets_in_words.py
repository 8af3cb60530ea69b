"""What a run says never holds a secret, whoever said it and wherever it is written."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend.credentials.redaction import remember_environment
from backend.events import ErrorEvent
from backend.launchers.modal.container.log import NumberedLog
from backend.launchers.modal.container.output import Output
from backend.runs.stream import EventTail, EventWriter
from backend.trainer.report import Reporter

SECRET = "plain-looking-secret-4711"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_API_KEY", SECRET)
    remember_environment()


def test_events(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "events.jsonl") as writer:
        writer.write(ErrorEvent(message=f'401 for "{SECRET}"\n', code="denied"))
    assert SECRET not in (tmp_path / "events.jsonl").read_text(encoding="utf-8")
    (event,) = EventTail(tmp_path / "events.jsonl").read()
    assert isinstance(event, ErrorEvent)
    assert event.code == "denied"


def test_the_trainers_log() -> None:
    out = io.StringIO()
    Reporter(None, out).line(f"cannot log in with {SECRET}", level="ERROR")
    assert "cannot log in with" in out.getvalue()
    assert SECRET not in out.getvalue()


def test_what_anything_in_a_container_prints(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    output = Output(writing)
    log = NumberedLog(tmp_path / "log.txt", 1, output)
    log.add([f"Traceback: token={SECRET} was refused"])
    output.close()
    log.close()
    os.close(writing)
    with os.fdopen(reading, "rb") as printed:
        assert SECRET.encode() not in printed.read()
    assert SECRET not in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_trainer_that_falls_over(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import backend.trainer.attempt as attempt\n"
        "import os\n"
        "def fall(folder): raise RuntimeError('bad key ' + os.environ['SOME_SERVICE_API_KEY'])\n"
        "attempt.run_attempt = fall\n"
        "from backend.trainer.__main__ import main\n"
        "sys.exit(main([sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "RuntimeError: bad key" in done.stderr
    assert SECRET not in done.stderr
