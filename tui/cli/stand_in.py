"""A local stand-in for Modal, for trying the whole way there without an account.

It is part of the tests, so it is there in a checkout of the source and in no installed copy.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from backend.home import home
from tui.runs.place import LABEL, SHOWN

_CHECKOUT = Path(__file__).parents[2]


class StandInError(Exception):
    """It cannot be started; the message is one sentence for people."""


@contextlib.contextmanager
def stand_in() -> Iterator[str]:
    """Run a stand-in and point this process and its children at it; gives its address.

    It ends with this process, its containers and their files too.

    Raises:
        StandInError: This is no checkout, or it did not start.
    """
    place = _CHECKOUT / "tests" / "loopback" / "__main__.py"
    if not place.is_file() or find_spec("modal_proto") is None:
        raise StandInError(
            f"a demo on Modal runs on a {LABEL}, which only a checkout of the source has; clone the "
            "repository, install it with pip install -e '.[train,dev]', and run this command there"
        )
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.loopback", "--with-parent"],
        cwd=_CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C at the terminal is for this process; the stand-in ends after it
    )
    assert process.stdin is not None
    assert process.stdout is not None
    before = dict(os.environ)
    try:
        try:
            ready = json.loads(process.stdout.readline())
            address = str(ready["url"])
            settings = {
                "MODAL_SERVER_URL": address,
                "MODAL_TOKEN_ID": str(ready["token_id"]),
                "MODAL_TOKEN_SECRET": str(ready["token_secret"]),
                "MODAL_CONFIG_PATH": os.devnull,
                # Runs of the user's own account must not be looked for here, nor these there.
                "FLUXLORA_HOME": str(home() / "stand-in"),
                SHOWN: address,
            }
        except (ValueError, KeyError, TypeError) as error:
            raise StandInError(f"the {LABEL} did not start; try: python -m tests.loopback") from error
        for name in [name for name in os.environ if name.startswith("MODAL_")]:
            del os.environ[name]  # nobody's account shall be reached by the demo
        os.environ.update(settings)
        yield address
    finally:
        os.environ.clear()
        os.environ.update(before)
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
