"""A stand-in for Modal's cloud on 127.0.0.1: the real SDK, CLI and container entrypoint work against it.

It executes: a container is a process `python -m modal._container_entrypoint` with its own working copy of
each volume and nothing of the working tree but what was uploaded. GPUs, images and isolation are not real.

* In tests: the fixture `modal_cloud` (fixtures.py) is a `LoopbackCloud` (cloud.py) in a thread of the test;
  `clients` runs the SDK and the CLI against it in processes of their own. What may go wrong is a method of
  the cloud (`preempt`, `drop_connections`, ...) or a field of `cloud.knobs` (state.Knobs).
* For other processes: `python -m tests.loopback` (__main__.py).
* Inside: server.py dispatches calls to services (apps, functions, calls, execution, logs, volumes, blobs,
  images, mounts, accounts), which share one `World` (state.py). container.py says what a container's process
  sees, endings.py what its end means.
"""
