"""On a GPU: steps replayed as CUDA graphs against steps launched one by one, at a small size.

python -m benchmarks.graphs_agree
"""

from __future__ import annotations

import sys

import torch

from backend.trainer.bench.shapes import small
from backend.trainer.full_size import FullSize

_TOLERANCE = 1e-3  # of the weights, relative: attention's gradients add up in no fixed order


def main() -> int:
    """Train twice and compare; 1 if they differ by more than the order of additions explains."""
    found = []
    for graphs in (False, True):
        config = small(512, 2, 4, 128)
        rig = FullSize(torch.device("cuda"), attention="auto", config=config, graphs=graphs)
        pictures = (1024, 512, 768, 512, 1024)
        groups = [[rig.batch(pixels, seed=seed)] for seed, pixels in enumerate(pictures)]
        groups += [[rig.batch(512, seed=7), rig.batch(768, seed=8)]] * 2
        for done, group in enumerate(groups):
            result = rig.step(done, group)
            print(f"graphs={graphs} step {done + 1}: loss {result.loss:.7f} norm {result.grad_norm:.7g}")
        if rig.fast is None:
            raise ValueError("the blocks were not rebuilt")
        if rig.graphs is not None:
            print(f"{len(rig.graphs)} graphs; reason for none: {rig.graphs.reason}")
        found.append(rig.fast.flat.master.detach().clone())
    launched, replayed = found
    apart = float((launched - replayed).norm() / launched.norm())
    print(f"weights apart by {apart:.2e}, equal bits: {torch.equal(launched, replayed)}")
    return int(not apart < _TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
