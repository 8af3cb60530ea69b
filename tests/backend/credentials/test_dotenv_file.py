from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from backend.credentials import dotenv_file
from backend.credentials.dotenv_file import read_dotenv, set_key, unset_key
from backend.credentials.errors import CredentialsError

FILE = b"""\
# first

A=1
export HF_TOKEN = "old"   # mine\r
B='two words' # why

LONG="a
b"
BARE
LAST=9"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_bytes(FILE)
    path.chmod(0o644)
    return path


def test_only_the_value_changes(file: Path) -> None:
    set_key(file, "HF_TOKEN", "hf_new")
    assert file.read_bytes() == FILE.replace(b'"old"', b'"hf_new"')
    assert os.name != "posix" or stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_dotenv(file)["HF_TOKEN"] == "hf_new"


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("K=old", "K=new"),
        ("K=old   # c", "K=new   # c"),
        ("K= # c", "K=new # c"),
        ("K=#no comment", "K=new"),
        ("K=a'#b", "K=new"),
        ("K='old'#c", "K='new'#c"),
        ('K="o\\"ld"\t# c', 'K="new"\t# c'),
        ("  export  K=old  ", "  export  K=new  "),
        ("'K'=old", "'K'=new"),
        ("K", "K=new"),
        ("K=", "K=new"),
        ("K=1\nB=2\nK=3", "K=new\nB=2\nK=new"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_all_ways_to_write_a_line(tmp_path: Path, line: str, after: str, end: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes(f"# head\n\n{line}{end}".encode())
    set_key(file, "K", "new")
    assert file.read_bytes().decode() == f"# head\n\n{after}{end}"


def test_a_new_key_comes_last_with_the_file_s_line_end(file: Path) -> None:
    set_key(file, "NEW", "x")
    assert file.read_bytes() == FILE + b"\r\nNEW=x\r\n"


def test_a_new_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / ".env"
    set_key(file, "HF_TOKEN", "hf_x")
    assert file.read_bytes() == b"HF_TOKEN=hf_x\n"
    assert os.name != "posix" or stat.S_IMODE(file.stat().st_mode) == 0o600


def test_unset_takes_the_line_and_leaves_the_rest(file: Path) -> None:
    assert unset_key(file, "HF_TOKEN") is True
    assert file.read_bytes() == FILE.replace(b'export HF_TOKEN = "old"   # mine\r\n', b"")
    assert unset_key(file, "HF_TOKEN") is False
    assert unset_key(file.with_name("none"), "X") is False


def test_a_mark_at_the_start_stays(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"\xef\xbb\xbfK=1\nB=2\n")
    set_key(file, "K", "3")
    assert file.read_bytes() == b"\xef\xbb\xbfK=3\nB=2\n"


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    try:
        link.symlink_to(file)
    except OSError:
        pytest.skip("no symbolic links here")
    set_key(link, "A", "2")
    assert link.is_symlink()
    assert b"A=2\n" in file.read_bytes()


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "${HOME}", "a\0b"])
def test_values_that_cannot_be_written(file: Path, value: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        set_key(file, "A", value)
    assert file.read_bytes() == FILE


def test_what_is_no_text_is_left_alone(file: Path) -> None:
    file.write_bytes(b"A=\xff\n")
    with pytest.raises(CredentialsError, match="UTF-8"):
        set_key(file, "A", "1")
    assert file.read_bytes() == b"A=\xff\n"
    assert read_dotenv(file) == {}
    assert read_dotenv(file.parent) == {}


def test_a_failure_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dotenv_file, "write_text", full)
    with pytest.raises(CredentialsError, match="no space left"):
        set_key(file, "A", "2")
    assert file.read_bytes() == FILE


PIECES = st.sampled_from(
    [
        "A=1\n",
        "\n",
        "# c\n",
        "export B='x y' # c\n",
        'C="q\\"" \r\n',
        "K=old\n",
        "K='old' # c\n",
        "K\n",
        "D=a#b\n",
        "E= # c\n",
        "broken line here\n",
        "F='open\n",
        'K="o\n2"\n',
        "G=${A}\n",
    ]
)


@given(
    st.lists(PIECES, max_size=8),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0$"), max_size=12),
)
def test_everything_else_is_read_as_before(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], value: str
) -> None:
    text = "".join(pieces)
    file = tmp_path_factory.mktemp("x") / ".env"
    file.write_bytes(text.encode())
    before = dict(dotenv_values(stream=io.StringIO(text), interpolate=False))
    try:
        set_key(file, "K", value)
    except CredentialsError:
        assert file.read_bytes() == text.encode()
        return
    after = file.read_bytes().decode()
    assert dotenv_values(stream=io.StringIO(after), interpolate=False) == before | {"K": value}
    if "K" not in before and not any(piece.startswith("F=") for piece in pieces):
        assert after.startswith(text)
