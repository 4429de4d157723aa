"""What a weightwatcher user would write: `peer_script.py MODEL.safetensors OUT.csv [--randomize] [--vectors]`; runs in the peer's environment."""

from __future__ import annotations

import argparse

import torch
import weightwatcher
from safetensors.torch import load_file

_MOST_ROWS = 2**20  # without it a matrix of more than 50000 rows is left out


def main() -> None:
    """Every matrix of the file as a Linear layer of one model, its analysis as CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--randomize", action="store_true", help="randomized spectra and the Marchenko-Pastur fit too")
    parser.add_argument("--vectors", action="store_true", help="eigenvectors too")
    arguments = parser.parse_args()
    model = torch.nn.Module()
    for name, tensor in load_file(arguments.model).items():
        if tensor.ndim == 2:
            layer = torch.nn.Linear(tensor.shape[1], tensor.shape[0], bias=False, device="meta")
            layer.weight = torch.nn.Parameter(tensor.float())
            model.add_module(name.replace(".", "/"), layer)
    watcher = weightwatcher.WeightWatcher(model=model)
    more = {"randomize": True, "mp_fit": True} if arguments.randomize else {}
    watcher.analyze(detX=True, max_N=_MOST_ROWS, vectors=arguments.vectors, **more).to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
