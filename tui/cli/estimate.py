"""``estimate``: what a config's run will take."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tui.cli.main import fail
from tui.cli.report import print_json, print_problems
from tui.text import duration, size


def estimate(config: str, overrides: Sequence[str], *, gpu: str | None, as_json: bool) -> int:
    """Print time, memory and dollars for each GPU; 2 if the config or a GPU's name is wrong."""
    from backend.estimate import estimate as estimated
    from backend.estimate import known_speeds, what_would_change_it_most
    from config.load import check_config

    loaded, problems = check_config(config, overrides, files=False)
    if loaded is None:
        print_problems(config, problems)
        return 2
    names = [name.strip() for name in gpu.split(",") if name.strip()] if gpu else None
    here = known_speeds()
    try:
        found = estimated(loaded.config, gpus=names, here=here)
    except ValueError as error:
        return fail(str(error), 2)
    only = found.gpus[0].gpu if names else None
    levers = what_would_change_it_most(loaded.config, only, here=here)
    if as_json:
        print_json({**dataclasses.asdict(found), "changes": [dataclasses.asdict(lever) for lever in levers]})
        return 0
    from backend.cost import dollars

    train = loaded.config.process.train
    if found.epochs is not None:
        print(
            f"{train.steps} steps are {found.epochs:.1f} epochs of {found.pictures} pictures, "
            f"each seen {found.steps_per_picture:.0f} times"
        )
    for share in found.samples:
        print(f"  {share.resolution:>5} px  {share.share:>4.0%} of the steps, {share.seconds:.2f} s a step")
    print(f"{found.checkpoints} checkpoints, {found.samples_drawn} samples, {size(found.disk_bytes)} on disk")
    print()
    for one in found.gpus:
        mark = "*" if one.chosen else " "
        if not one.fits:
            print(f"{mark} {one.gpu:<13} {one.why}")
            continue
        cost = dollars(one.dollars) if one.dollars is not None else "no price"
        measured = "measured" if one.measured else "assumed speed"
        print(
            f"{mark} {one.gpu:<13} {duration(one.seconds):>9}  {cost:>9}  {one.seconds_per_step:5.2f} s/step"
            f"  {one.memory_bytes / 2**30:4.0f} GiB  {measured}"
        )
    if levers:
        print("\nwhat would change it most")
        for lever in levers[:4]:
            print(f"  {lever.sentence}")
    print(f"\nprices of {found.prices_as_of}; * is asked for by the config")
    for note in found.notes:
        print(note)
    return 0
