"""What a weightwatcher user would write: `peer_script.py MODEL.safetensors OUT.csv`; runs in the peer's environment."""

from __future__ import annotations

import sys

import torch
import weightwatcher
from safetensors.torch import load_file


def main(path: str, out: str) -> None:
    """Every matrix of the file as a Linear layer of one model, its analysis as CSV."""
    model = torch.nn.Module()
    for name, tensor in load_file(path).items():
        if tensor.ndim == 2:
            layer = torch.nn.Linear(tensor.shape[1], tensor.shape[0], bias=False)
            layer.weight = torch.nn.Parameter(tensor.float())
            model.add_module(name.replace(".", "/"), layer)
    details = weightwatcher.WeightWatcher(model=model).analyze(detX=True)
    details.to_csv(out, index=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
