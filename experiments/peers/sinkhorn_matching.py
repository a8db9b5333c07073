"""Sinkhorn re-basin by its authors, in an environment of its own: `python sinkhorn_matching.py PAIRS.npz FOUND.npz`.

    python -m venv ENV && ENV/bin/pip install sinkhorn-rebasin==0.0.2

As bench_peers.py calls it. Not in one environment with rebasin: both are the module of that name. Its tracing of the
module is not timed, and the first pair is aligned once before.
"""

import sys
import time

import numpy as np
import torch
from peak import bytes_of
from rebasin import RebasinNet
from rebasin.loss import RndLoss
from torch_mlps import arrays_of, read_mlp


def main(pairs: str, found: str) -> None:
    """Seconds and bytes of every pair, and the second network of each as it is aligned."""
    given, kept = np.load(pairs), {}
    inputs, labels = torch.tensor(given["inputs"]), torch.tensor(given["labels"]).long()
    draw = np.random.default_rng(0)
    for pair in (0, *range(int(given["pairs"]))):
        a, b = (read_mlp(given, pair, side) for side in "ab")
        soft, loss = RebasinNet(b, input_shape=(1, a[0].in_features)), RndLoss(a, criterion=torch.nn.CrossEntropyLoss())
        optimizer = torch.optim.Adam(soft.p.parameters(), lr=0.1)

        def run(soft=soft, loss=loss, optimizer=optimizer):
            soft.train()
            for _ in range(int(given["steps"])):
                index = torch.tensor(draw.integers(0, len(inputs), int(given["images"])))
                optimizer.zero_grad()
                loss(soft(), inputs[index], labels[index]).backward()
                optimizer.step()
            soft.eval()
            return soft()

        begin = time.process_time()
        aligned, most = bytes_of(run)
        kept |= {f"{pair}/seconds": np.asarray(time.process_time() - begin), **arrays_of(aligned, pair)}
        kept[f"{pair}/bytes"] = np.asarray(most)
    np.savez(found, **kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
