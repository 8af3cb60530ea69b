from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest

from backend.credentials.errors import CredentialsError
from backend.credentials.modal_profiles import (
    activate_profile,
    find_modal_token,
    modal_config_path,
    modal_token_places,
    read_profiles,
    remove_profile,
    save_profile,
)
from backend.credentials.secret import Secret

SECRET = Secret("as-ZyXwVuTsRqPoNmLkJiHgFe")

FILE = """\
# my own notes

[work]  # the company
token_id = "ak-work"   # made in May
token_secret='as-work'
active = true # for now
environment = "dev"

# about home
[home]
token_id="ak-home"
token_secret = "as-home"

# the end
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "modal.toml"
    path.write_bytes(FILE.encode())
    path.chmod(0o644)
    return path


def is_private(path: Path) -> bool:
    return os.name != "posix" or stat.S_IMODE(path.stat().st_mode) == 0o600


def test_profiles_are_read(file: Path) -> None:
    work, home = read_profiles(file)
    assert (work.name, work.active, work.token_id, work.token_secret) == (
        "work",
        True,
        "ak-work",
        Secret("as-work"),
    )
    assert (home.name, home.active) == ("home", False)
    assert "as-work" not in repr(work)
    assert read_profiles(file.with_name("none.toml")) == []


def test_a_new_profile_leaves_every_other_byte(file: Path) -> None:
    save_profile(file, "new", "ak-new", SECRET, activate=False)
    text = file.read_text(encoding="utf-8")
    assert text == FILE + f'\n[new]\ntoken_id = "ak-new"\ntoken_secret = "{SECRET.reveal()}"\n'
    assert is_private(file)


def test_activating_moves_one_line(file: Path) -> None:
    activate_profile(file, "home")
    text = file.read_text(encoding="utf-8")
    expected = FILE.replace("active = true # for now\n", "").replace(
        'token_secret = "as-home"\n', 'token_secret = "as-home"\nactive = true\n'
    )
    assert text == expected
    activate_profile(file, "home")
    assert file.read_text(encoding="utf-8") == expected


def test_a_token_is_replaced_in_place(file: Path) -> None:
    save_profile(file, "home", "ak-other", SECRET, activate=False)
    text = file.read_text(encoding="utf-8")
    assert text == FILE.replace("ak-home", "ak-other").replace("as-home", SECRET.reveal())


def test_removing_takes_only_the_profile(file: Path) -> None:
    remove_profile(file, "home")
    text = file.read_text(encoding="utf-8")
    assert text.startswith(FILE[: FILE.index("[home]")])
    assert text.endswith("# the end\n")
    assert [profile.name for profile in read_profiles(file)] == ["work"]
    remove_profile(file, "work")
    assert read_profiles(file) == []
    for comment in ("# my own notes", "# about home", "# the end"):
        assert comment in file.read_text(encoding="utf-8")


def test_windows_line_ends_stay(file: Path) -> None:
    file.write_bytes(FILE.replace("\n", "\r\n").encode())
    save_profile(file, "new", "ak-new", SECRET)
    raw = file.read_bytes()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert raw.startswith(b"# my own notes\r\n\r\n[work]  # the company\r\n")


def test_a_new_file_is_private_and_its_profile_active(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "modal.toml"
    save_profile(path, "one", "ak-1", SECRET, activate=False, server_url="http://127.0.0.1:1")
    assert is_private(path)
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {
        "one": {
            "token_id": "ak-1",
            "token_secret": SECRET.reveal(),
            "server_url": "http://127.0.0.1:1",
            "active": True,
        }
    }


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    try:
        link.symlink_to(file)
    except OSError:
        pytest.skip("no symbolic links here")
    save_profile(link, "new", "ak-new", SECRET)
    assert link.is_symlink()
    assert "[new]" in file.read_text(encoding="utf-8")


def test_the_real_sdk_reads_what_was_written(file: Path) -> None:
    import toml  # what the SDK reads its file with

    save_profile(file, "new.name", "ak-new", SECRET)
    activate_profile(file, "home")
    data = toml.loads(file.read_text(encoding="utf-8"))
    assert set(data) == {"work", "home", "new.name"}
    assert [name for name, table in data.items() if table.get("active")] == ["home"]
    assert data["new.name"]["token_secret"] == SECRET.reveal()


@pytest.mark.parametrize("name", ["", "a b", "-x", "a\nb", "x" * 65, "a]b"])
def test_names_that_are_none(file: Path, name: str) -> None:
    with pytest.raises(CredentialsError, match="name"):
        save_profile(file, name, "ak-1", SECRET)
    assert file.read_text(encoding="utf-8") == FILE


@pytest.mark.parametrize(
    "broken",
    [
        b'[work]\ntoken_secret = "as-geheim\n',
        b'token_id = "ak-1"\n',
        b"\xff\xfe[work]\n",
    ],
)
def test_a_broken_file_is_told_and_kept(file: Path, broken: bytes) -> None:
    file.write_bytes(broken)
    for action in (
        lambda: read_profiles(file),
        lambda: save_profile(file, "new", "ak-1", SECRET),
        lambda: activate_profile(file, "work"),
    ):
        with pytest.raises(CredentialsError, match=r"modal\.toml") as caught:
            action()
        assert "geheim" not in str(caught.value)
    assert file.read_bytes() == broken


def test_unknown_profiles(file: Path) -> None:
    for action in (activate_profile, remove_profile):
        with pytest.raises(CredentialsError, match="work, home"):
            action(file, "nobody")
    assert file.read_text(encoding="utf-8") == FILE


# Which token wins


def env(file: Path, **extra: str) -> dict[str, str]:
    return {"MODAL_CONFIG_PATH": str(file), **extra}


def test_the_environment_wins_over_dotenv_over_the_profile(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    found = find_modal_token(env(file), folder)
    assert found is not None
    assert (found.token_id, found.profile, found.source) == ("ak-work", "work", str(file))
    (folder / ".env").write_text("MODAL_TOKEN_ID=ak-dot\nMODAL_TOKEN_SECRET='as-dot'\n", encoding="utf-8")
    found = find_modal_token(env(file), folder)
    assert found is not None
    assert (found.token_id, found.profile, found.source) == ("ak-dot", None, str(folder / ".env"))
    variables = env(file, MODAL_TOKEN_ID=" ak-env ", MODAL_TOKEN_SECRET="as-env")
    found = find_modal_token(variables, folder)
    assert found is not None
    assert (found.token_id, found.token_secret.reveal(), found.source) == (
        "ak-env",
        "as-env",
        "the environment",
    )
    assert len(modal_token_places(variables, folder)) == 3
    assert find_modal_token(variables) == found
    assert "as-env" not in repr(found)


def test_modal_profile_chooses(file: Path) -> None:
    found = find_modal_token(env(file, MODAL_PROFILE="home"))
    assert found is not None
    assert found.token_id == "ak-home"
    (place,) = modal_token_places(env(file, MODAL_PROFILE="nobody"))
    assert place.token is None
    assert "MODAL_PROFILE" in str(place.problem)


def test_half_a_token_is_never_completed_from_elsewhere(file: Path) -> None:
    places = modal_token_places(env(file, MODAL_TOKEN_ID="ak-env"))
    assert [place.token and place.token.token_id for place in places] == [None, "ak-work"]
    assert "MODAL_TOKEN_SECRET" in str(places[0].problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FILE.replace('as-home"', 'as-home"\nactive = true'), "2 active profiles"),
        (FILE.replace("active = true", "active = false"), "no active profile"),
        (FILE.replace("token_secret='as-work'", ""), "whole token"),
        ("[", "not valid TOML"),
    ],
)
def test_why_no_profile_is_used(file: Path, text: str, problem: str) -> None:
    file.write_text(text, encoding="utf-8")
    assert find_modal_token(env(file)) is None
    (place,) = modal_token_places(env(file))
    assert problem in str(place.problem)


def test_the_server_comes_with_the_token(file: Path) -> None:
    file.write_text(FILE.replace('environment = "dev"', 'server_url = "http://x:1"'), encoding="utf-8")
    found = find_modal_token(env(file))
    assert found is not None
    assert found.server_url == "http://x:1"
    found = find_modal_token(env(file, MODAL_SERVER_URL="http://y:2"))
    assert found is not None
    assert found.server_url == "http://y:2"


def test_nothing_anywhere(tmp_path: Path) -> None:
    assert modal_token_places(env(tmp_path / "none"), tmp_path) == []
    assert modal_config_path({}).name == ".modal.toml"
