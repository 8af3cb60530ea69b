"""`python -m tests.loopback`: a loopback Modal in a process of its own.

Prints one line of JSON {"url": …, "token_id": …, "token_secret": …} when it is ready, runs until SIGTERM,
SIGINT or, with `--with-parent`, until its standard input is closed. Its containers end with it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from .cloud import TOKEN_ID, TOKEN_SECRET, LoopbackCloud


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.loopback", description="A local stand-in for Modal."
    )
    parser.add_argument("--port", type=int, default=0, help="TCP port; any free one without it")
    parser.add_argument(
        "--state", type=Path, help="folder for its files, kept afterwards; else a temporary one"
    )
    parser.add_argument(
        "--queue-delay", type=float, default=0.0, metavar="S", help="seconds until an input starts"
    )
    parser.add_argument(
        "--build-delay", type=float, default=0.0, metavar="S", help="seconds that a build takes"
    )
    parser.add_argument("--token", default=f"{TOKEN_ID}:{TOKEN_SECRET}", metavar="ID:SECRET")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input is closed")
    parser.add_argument(
        "--knob", action="append", default=[], metavar="NAME=JSON", help="a field of state.Knobs"
    )
    options = parser.parse_args()
    knobs = {"queue_delay": options.queue_delay, "build_delay": options.build_delay}
    for knob in options.knob:
        name, _, value = knob.partition("=")
        knobs[name] = json.loads(value)

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    token_id, _, token_secret = options.token.partition(":")
    cloud = LoopbackCloud(
        port=options.port,
        state=options.state,
        token=(token_id, token_secret),
        **knobs,
    )
    with cloud:
        ready = {"url": cloud.url, "token_id": token_id, "token_secret": token_secret}
        print(json.dumps(ready), flush=True)
        if options.with_parent:
            threading.Thread(target=_wait_for_parent, args=(ended,), daemon=True).start()
        ended.wait()
    return 0


def _wait_for_parent(ended: threading.Event) -> None:
    # Not through sys.stdin: its lock, held by a thread that still reads, would abort the interpreter's exit.
    while os.read(0, 1024):
        pass
    ended.set()


if __name__ == "__main__":
    sys.exit(main())
