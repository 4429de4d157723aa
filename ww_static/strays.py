"""Files of a folder that no reader claims: which of them are models all the same, by their names or by their first bytes."""

from __future__ import annotations

import os

from ww_static import storage
from ww_static.errors import FormatError
from ww_static.protocol import SNIFF_BYTES

MOST_LOOKED_INTO = 10_000  # files of a scanned folder whose names say nothing

# Loading one of these unpickles nothing.
_PLAIN = (
    ".ggml", ".gguf", ".h5", ".hdf5", ".keras", ".mlmodel", ".msgpack", ".npy", ".npz", ".onnx", ".pb", ".safetensors", ".tflite",
)  # fmt: skip
# Loading one of these may run code, or what is packed in it may.
_UNPICKLED = (
    ".bin", ".ckpt", ".dill", ".joblib", ".mar", ".nemo", ".params", ".pdparams", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".tar",
    ".zip",
)  # fmt: skip
_MODELS = tuple(suffix for suffix in (*_PLAIN, *_UNPICKLED) if suffix != ".safetensors")
# What nobody loads as a model: not looked into.
_OTHERS = (
    ".c", ".cc", ".cfg", ".cpp", ".css", ".csv", ".cu", ".gif", ".gitattributes", ".gitignore", ".h", ".html", ".ini", ".ipynb", ".jpeg", ".jpg",
    ".js", ".json", ".jsonl", ".lock", ".log", ".md", ".pdf", ".png", ".py", ".pyc", ".rst", ".sh", ".svg", ".toml", ".tsv", ".txt", ".webp",
    ".xml", ".yaml", ".yml",
)  # fmt: skip
_STATES = ("optimizer", "random_states", "rng_state", "scaler", "scheduler", "training_args")
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in (2, 3, 4, 5))
_ZIP = b"PK\x03\x04"


def is_model(name: str) -> bool:
    """Whether a file is a model by its suffix."""
    return name.lower().endswith(_MODELS)


def is_unpickled(name: str) -> bool:
    """Whether loading a file that was reported may run code, by its suffix; one without a known suffix began like a pickle."""
    return not name.lower().endswith(_PLAIN)


def is_twin(name: str) -> bool:
    """Whether a file may be loaded in place of the model that it lies beside, by unpickling; the state of a trainer is not."""
    return is_unpickled(name) and not os.path.basename(name).startswith(_STATES)


def says_nothing(name: str) -> bool:
    """Whether only its bytes tell what a file is."""
    return not name.lower().endswith((*_MODELS, ".safetensors", *_OTHERS))


def is_pickle(root: str, shown: str) -> bool:
    """Whether a file below `root` begins like a pickle, or like a zip archive of one, or cannot be looked into.

    Nothing but a regular file is ever opened.
    """
    try:
        descriptor = storage.open_listed(root, shown)
        try:
            head = storage.read_at(descriptor, 0, min(os.fstat(descriptor).st_size, SNIFF_BYTES), "")
        finally:
            os.close(descriptor)
    except FormatError as error:
        return error.category != "not_regular_file"
    return head.startswith(_PICKLES) or (head.startswith(_ZIP) and b".pkl" in head)
