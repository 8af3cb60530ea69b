from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from backend.credentials.gitignore import ignore_proposal
from backend.credentials.hf_token import (
    find_hf_token,
    hf_token_problem,
    hf_tokens,
    hub_token_path,
    parse_hf_token,
    save_hf_token,
)
from backend.credentials.pasted import PasteRefusedError
from backend.credentials.secret import Secret

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz12345678"
OTHER = "hf_" + "Zz9" * 11


def test_who_wins(tmp_path: Path) -> None:
    home = tmp_path / "hf"
    env = {"HF_HOME": str(home)}
    assert find_hf_token(env, tmp_path) is None
    home.mkdir()
    (home / "token").write_text("hf_file\n", encoding="utf-8")
    assert [t.source for t in hf_tokens(env, tmp_path)] == [str(home / "token")]
    (tmp_path / ".env").write_text("HUGGING_FACE_HUB_TOKEN=hf_dot\n", encoding="utf-8")
    env["HUGGING_FACE_HUB_TOKEN"] = "hf_old"
    env["HF_TOKEN"] = " hf_env\n"
    found = hf_tokens(env, tmp_path)
    assert [t.token.reveal() for t in found] == ["hf_env", "hf_old", "hf_dot", "hf_file"]
    assert [t.source for t in found][:3] == ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", str(tmp_path / ".env")]
    assert find_hf_token(env) == found[0]
    assert "hf_env" not in repr(found)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "$HOME/hf"},
        {"HF_TOKEN_PATH": "~/t"},
        {"XDG_CACHE_HOME": "~/xdg"},
        {"HF_HOME": "~/a", "HF_TOKEN_PATH": "~/b"},
    ],
)
def test_the_file_is_where_the_real_client_has_it(variables: dict[str, str]) -> None:
    names = ("HF_HOME", "HF_TOKEN_PATH", "XDG_CACHE_HOME")
    env = {k: v for k, v in os.environ.items() if k not in names} | variables
    code = "from huggingface_hub import constants; print(constants.HF_TOKEN_PATH)"
    theirs = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    assert str(hub_token_path(variables)) == theirs.stdout.strip()


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"  {TOKEN}\n",
        f'"{TOKEN}"',
        f"`{TOKEN}`",
        f"HF_TOKEN={TOKEN}",
        f'export HF_TOKEN="{TOKEN}"',
        f"export HUGGING_FACE_HUB_TOKEN={TOKEN}",
        f"set HF_TOKEN={TOKEN}",
        f"setx HF_TOKEN {TOKEN}",
        f'$env:HF_TOKEN = "{TOKEN}"',
        f"HF_TOKEN: {TOKEN}",
        f"$ hf auth login --token {TOKEN}",
        f"huggingface-cli login --token={TOKEN} --add-to-git-credential",
        f"\u201c{TOKEN}\u201d",
        f"\x1b[200~{TOKEN}\x1b[201~",
    ],
)
def test_pasted_tokens(text: str) -> None:
    assert parse_hf_token(text).reveal() == TOKEN


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nothing"),
        ("hf_short", "too short"),
        ("hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxx", "placeholder"),
        ("hf_your_token_goes_right_here", "placeholder"),
        ("hf_...", "placeholder"),
        ("sk-abcdefghijklmnopqrstuvwxyz", "begin with hf_"),
        ("ak-abcdefghijklmnopqrstuvwxyz", "Modal"),
        (f"{TOKEN} {OTHER}", "two different"),
        (f"{TOKEN}; rm -rf ~", "more than a token"),
        (f"curl -H {TOKEN}", "more than a token"),
        (f"echo {TOKEN} | sh", "pipe"),
        ("$(cat token)", "substitution"),
        (f"{TOKEN}\u00e9", "characters"),
        ("two words", "no Hugging Face token"),
    ],
)
def test_refused_and_why(text: str, why: str) -> None:
    with pytest.raises(PasteRefusedError, match=why) as caught:
        parse_hf_token(text)
    assert TOKEN not in str(caught.value)


def test_shape() -> None:
    assert hf_token_problem(TOKEN) is None
    assert hf_token_problem("api_org_" + "aB3" * 9) is None


def test_saved_where_the_real_client_finds_it(tmp_path: Path) -> None:
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf")}
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        env.pop(name, None)
    path = save_hf_token(Secret(TOKEN), "hub", env=env)
    assert path == tmp_path / "hf" / "token"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    code = "from huggingface_hub import get_token; print(get_token())"
    theirs = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    assert theirs.stdout.strip() == TOKEN
    path = save_hf_token(Secret(OTHER), "dotenv", folder=tmp_path)
    assert path.read_text(encoding="utf-8") == f"HF_TOKEN={OTHER}\n"
    found = find_hf_token(env, tmp_path)
    assert found is not None
    assert found.token.reveal() == OTHER


# .gitignore


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-c", "core.excludesFile=", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("patterns", "below"),
    [
        ("", "sub/.env"),
        ("# nothing\n", ".env"),
        (".env\n", ".env"),
        (".env\n", "sub/.env"),
        ("/.env\n", "sub/.env"),
        ("*.env\n", ".env"),
        (".env*\n!.env\n", ".env"),
        ("sub/\n", "sub/.env"),
        ("sub\n", "sub/deep/.env"),
        ("**/.env\n", "sub/deep/.env"),
        ("sub/**\n", "sub/deep/.env"),
        ("sub/*/.env\n", "sub/deep/.env"),
        (".en[v]\n", ".env"),
        (".en?\n", "sub/.env"),
        (".env/\n", ".env"),
        ("deep/.env\n", "sub/deep/.env"),
    ],
)
def test_the_proposal_agrees_with_git(tmp_path: Path, patterns: str, below: str) -> None:
    if git(tmp_path, "init", "-q").returncode != 0:
        pytest.skip("no git here")
    path = tmp_path / below
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (tmp_path / ".gitignore").write_text(patterns, encoding="utf-8")
    ignored = git(tmp_path, "check-ignore", "-q", below).returncode == 0
    proposal = ignore_proposal(path)
    assert (proposal is None) == ignored
    if proposal is not None:
        proposal.apply()
        assert git(tmp_path, "check-ignore", "-q", below).returncode == 0
        assert ignore_proposal(path) is None
        assert (tmp_path / ".gitignore").read_text(encoding="utf-8").startswith(patterns)


def test_no_proposal_outside_of_a_work_tree(tmp_path: Path) -> None:
    if any((folder / ".git").exists() for folder in tmp_path.parents):
        pytest.skip("the temporary folder lies in a work tree")
    assert ignore_proposal(tmp_path / ".env") is None
