"""What a container's process is started with: its file system, its environment, its arguments.

A container is `python -m modal._container_entrypoint` with the server's interpreter (so torch and the rest of
the virtual environment are there as in a built image) but without the working tree: `sitecustomize` below
removes from `sys.path` what an editable install put there, so only what was uploaded as a mount can be
imported.

Volumes, by the knob `mounts`:

* "namespace": a private mount namespace in which each working copy is bound at its real path (/mnt/lora).
  Linux with root or user namespaces. Never over a folder that the interpreter, the home or the server needs.
* "prefix": nothing is mounted; `LORA_ROOT` names the working copy of the first volume without "base" in its
  mount path.
* "auto": the first where it works, else the second.

In all of them `MODAL_EMU_ROOT` names the container's root folder: files of mounts lie below it at their
paths, and each mount path of a volume is a symlink to its working copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from .mounts import mount_metadata
from .store import store_of
from .volumes import volume_metadata

if TYPE_CHECKING:
    from .state import Function, Task, World

# From the server's own environment; all else would hide what the launcher forgot to send.
INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "SYSTEMROOT",
)

SITECUSTOMIZE = '''\
"""Put on PYTHONPATH by the loopback Modal: no working tree in containers, and none outlives its server."""
import os
import sys


def _prepare():
    kept = [sys.prefix, sys.base_prefix, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    kept = [os.path.realpath(folder) for folder in kept]

    def allowed(entry):
        path = os.path.realpath(entry)
        return not entry or any(path == folder or path.startswith(folder + os.sep) for folder in kept)

    sys.path[:] = [entry for entry in sys.path if allowed(entry)]
    editable = [f for f in sys.meta_path if getattr(f, "__module__", "").startswith("__editable__")]
    sys.meta_path[:] = [f for f in sys.meta_path if f not in editable]
    if sys.platform == "linux" and os.environ.get("MODAL_EMU_PARENT") == str(os.getppid()):
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


_prepare()
'''

# Arguments: WORK MOUNT_POINT rw|ro, as often as needed, then -- and the command.
BIND = """\
while [ "$1" != -- ]; do
  mount --bind "$1" "$2" || exit 97
  if [ "$3" = ro ]; then mount -o remount,bind,ro "$2" || exit 97; fi
  shift 3
done
shift
exec "$@"
"""


@dataclass
class Launch:
    argv: list[str]
    environment: dict[str, str]
    directory: Path


async def prepare(world: World, task: Task, function: Function, socket: Path) -> Launch:
    """Check volumes out, lay mounts down, write the arguments. Raises GRPCError for a secret that is gone."""
    definition = function.definition
    root = task.directory / "root"
    home = root / "root"
    home.mkdir(parents=True)
    await world.mounts.materialise(definition.mount_ids, root)

    binds: list[tuple[Path, str, bool]] = []
    first_volume: Path | None = None
    for mount in definition.volume_mounts:
        work = await world.volumes.checkout(
            mount.volume_id, task.task_id, sub_path=mount.sub_path, read_only=mount.read_only
        )
        link = root / mount.mount_path.strip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(work, target_is_directory=True)
        binds.append((work, mount.mount_path, mount.read_only))
        if first_volume is None and "base" not in mount.mount_path:
            first_volume = work
    namespace = _namespace_for(world, [path for _, path, _ in binds]) if binds else None

    app = world.apps[function.app_id]
    arguments = api_pb2.ContainerArguments(
        task_id=task.task_id,
        function_id=function.function_id,
        app_id=app.app_id,
        function_def=definition,
        environment_name=app.environment,
        app_layout=_layout(world, function),
    )
    arguments_path = task.directory / "arguments.pb"
    arguments_path.write_bytes(arguments.SerializeToString())

    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= world.images.environment(definition.image_id)
    environment |= world.knobs.environment
    for secret_id in definition.secret_ids:
        environment |= world.accounts.values(secret_id)
    path = [str(_boot(world)), str(home), environment.get("PYTHONPATH", "")]
    environment |= {
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments_path),
        "MODAL_SERVER_URL": f"unix://{socket}",
        "MODAL_IS_REMOTE": "1",
        "MODAL_TASK_ID": task.task_id,
        "MODAL_IMAGE_ID": definition.image_id,
        "MODAL_ENVIRONMENT": app.environment,
        "MODAL_CLOUD_PROVIDER": "CLOUD_PROVIDER_LOOPBACK",
        "MODAL_REGION": "loopback",
        "MODAL_EMU_ROOT": str(root),
        "MODAL_EMU_GPU": task.gpu,
        "MODAL_EMU_PARENT": str(os.getpid()),
    }
    argv = [sys.executable, "-m", "modal._container_entrypoint"]
    if namespace is not None:
        places = [part for work, at, ro in binds for part in (str(work), at, "ro" if ro else "rw")]
        argv = [*namespace, "sh", "-c", BIND, "sh", *places, "--", *argv]
    elif first_volume is not None:
        environment.setdefault("LORA_ROOT", str(first_volume))
    return Launch(argv, environment, home)


def _layout(world: World, function: Function) -> api_pb2.AppLayout:
    """The app's functions, and a handle for each object that a decorated function depends on."""
    layout = world.services["apps"].layout(world.apps[function.app_id])
    for dependency in function.definition.object_dependencies:
        item = layout.objects.add(object_id=dependency.object_id)
        if dependency.object_id.startswith("vo-"):
            item.volume_metadata.CopyFrom(volume_metadata(store_of(world).volumes[dependency.object_id]))
        elif dependency.object_id.startswith("mo-"):
            item.mount_handle_metadata.CopyFrom(mount_metadata(store_of(world).mounts[dependency.object_id]))
    return layout


def _boot(world: World) -> Path:
    folder = world.root / "boot"
    file = folder / "sitecustomize.py"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(SITECUSTOMIZE, encoding="utf-8")
    return folder


def _namespace_for(world: World, mount_points: list[str]) -> tuple[str, ...] | None:
    """The command that makes a mount namespace, None when volumes are to be found through the environment."""
    if world.knobs.mounts == "prefix":
        return None
    command = _namespace_command()
    if command is not None and all(_can_mount_at(world, Path(place)) for place in mount_points):
        return command
    if world.knobs.mounts == "namespace":
        raise RuntimeError(f"no mount namespace can be made for {mount_points} on this machine")
    return None


def _can_mount_at(world: World, place: Path) -> bool:
    needed = [sys.executable, sys.prefix, sys.base_prefix, str(world.root), str(Path.home())]
    for path in needed:
        for form in (Path(path), Path(path).resolve()):
            if form.is_relative_to(place):
                return False
    if place.is_relative_to("/root") or place.is_relative_to("/tmp"):
        return False
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


@cache
def _namespace_command() -> tuple[str, ...] | None:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for flags in ("-m", "-Urm"):
            command = ("unshare", flags, "--propagation", "private")
            probe = [*command, "mount", "--bind", folder, folder]
            if subprocess.run(probe, capture_output=True, timeout=20, check=False).returncode == 0:
                return command
    return None
