"""``python -m …container_process REF SETTINGS``: a container's main process, for tests that signal it.

SIGUSR1 raises as in Modal's containers. The result is the last line of stderr.
"""

from __future__ import annotations

import json
import signal
import sys

from backend.launchers.modal.container.interruptions import work_interruptibly
from backend.launchers.modal.container.launch_file import Ref
from backend.launchers.modal.container.supervisor import PATIENCE, Settings, Supervisor


class InputCancellation(BaseException):
    """Modal's has this name, and no other base."""


def cancel(number: int, frame: object) -> None:
    raise InputCancellation("Input was cancelled by user")


def main() -> None:
    signal.signal(signal.SIGUSR1, cancel)
    supervisor = Supervisor(Ref.parse(json.loads(sys.argv[1])), settings=Settings(**json.loads(sys.argv[2])))
    try:
        result = work_interruptibly(supervisor.run, supervisor.interrupt, PATIENCE)
        said = {"result": result}
    except BaseException as error:
        said = {"raised": type(error).__name__, "text": str(error)}
    print(json.dumps(said), file=sys.stderr)


if __name__ == "__main__":
    main()
