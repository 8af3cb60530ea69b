from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from backend.configs.drafts import Drafts
from backend.configs.external_change import ChangedOnDiskError, Snapshot, changed_since, save_if_unchanged


def test_a_draft_survives_until_it_is_discarded(tmp_path: Path) -> None:
    drafts, path = Drafts(tmp_path / "drafts"), tmp_path / "fox.yaml"
    assert drafts.load(path) is None
    drafts.save(path, "a: 1\r\n", "a: 0\n")
    drafts.save(path, "a: 2\r\n", "a: 0\n")
    found = Drafts(tmp_path / "drafts").load(path)  # as after a crash, in another process
    assert found is not None
    assert (found.path, found.text, found.base) == (path, "a: 2\r\n", "a: 0\n")
    assert drafts.all() == [found]
    drafts.discard(path)
    drafts.discard(path)
    assert drafts.all() == []


def test_a_draft_is_for_its_owner_s_eyes(tmp_path: Path) -> None:
    drafts, path = Drafts(tmp_path / "drafts"), tmp_path / "fox.yaml"
    drafts.save(path, "token: hf_x", None)
    (file,) = (tmp_path / "drafts").iterdir()
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("{", encoding="utf-8")
    assert drafts.load(path) is None
    assert drafts.all() == []


def test_a_change_by_others_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "fox.yaml"
    path.write_bytes("\ufeffa: 1\r\n".encode())
    opened = Snapshot.of(path)
    assert opened.text == "\ufeffa: 1\r\n"
    assert changed_since(opened) is None
    os.utime(path, (1, 1))
    assert changed_since(opened) is None  # touched, not changed
    saved = save_if_unchanged(path, "a: 2\r\n", opened)
    assert path.read_bytes() == b"a: 2\r\n"
    assert changed_since(saved) is None
    path.write_text("a: 3\n", encoding="utf-8")
    with pytest.raises(ChangedOnDiskError, match="was changed on disk") as caught:
        save_if_unchanged(path, "a: 4\n", saved)
    assert caught.value.now.text == "a: 3\n"
    assert path.read_text(encoding="utf-8") == "a: 3\n"
    assert save_if_unchanged(path, "a: 3\n", saved).text == "a: 3\n"  # both wrote the same
    path.unlink()
    with pytest.raises(ChangedOnDiskError, match="was deleted"):
        save_if_unchanged(path, "a: 5\n", caught.value.now)
    assert save_if_unchanged(path, "a: 6\n", None).text == "a: 6\n"


def test_a_file_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "fox.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        Snapshot.of(path)
