"""Threads that come and go leave no pools of memory behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
from pathlib import Path
from tui.memory import share_one_arena

told = share_one_arena() if sys.argv[1] == "shared" else True
together = threading.Barrier(4)

def work():
    together.wait()
    kept = [bytes(3000) for _ in range(500)]
    together.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
# A pool of a thread is 64 MiB of addresses, most of them reserved and not to be touched.
maps = Path("/proc/self/maps").read_text().splitlines()
starts = [line.split("-")[0] for line in maps if len(line.split()) == 5]
print(told, sum(int(start, 16) % (64 << 20) == 0 for start in starts))
"""


def pools(how: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    told, count = done.stdout.split()
    return told, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has pools for threads")
def test_threads_share_one_pool() -> None:
    told, shared = pools("shared")
    if told != "True":
        pytest.skip("this is no glibc")
    assert shared < pools("each its own")[1]
