"""ww-static: what is inside a model file, without running it.

    import ww_static as ww
    result = ww.analyze("model.safetensors")    # result.layers is an Arrow table, one row per tensor

Importing this package loads neither numpy nor a reader; names are resolved when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ww_static.version import __version__ as __version__

if TYPE_CHECKING:
    from ww_static import theory
    from ww_static.api import analyze, describe
    from ww_static.auditing import audit
    from ww_static.calibration import calibrate
    from ww_static.dtypes import widen
    from ww_static.errors import (
        FormatError,
        LimitError,
        NonFiniteError,
        NotConvergedError,
        ReaderError,
        UnknownFormatError,
        UnsafeFileError,
        UsageError,
        WorkerDiedError,
        WWStaticError,
    )
    from ww_static.listing import Listing
    from ww_static.pairs.comparing import compare
    from ww_static.pairs.trending import trend
    from ww_static.policies.judgement import Judgement
    from ww_static.policies.policy import Policy
    from ww_static.protocol import Checkpoint, Extent, Finding, FolderReader, Limits, ModelFile, Reader, TensorSpec
    from ww_static.results import Result
    from ww_static.seam import OpenCheckpoint
    from ww_static.seam import open_checkpoint as open
    from ww_static.spectral.detx import DetX, detx
    from ww_static.spectral.eigen import Spectrum, spectrum
    from ww_static.spectral.missing import Missing
    from ww_static.spectral.norms import stable_rank
    from ww_static.spectral.powerlaw import TailFit, tail
    from ww_static.spectral.ranks import effective_rank, hard_rank, matrix_entropy
    from ww_static.transforms.transforming import sharpen, smooth
    from ww_static.workers.executors import InlineExecutor, WorkerExecutor

_PLACES = {
    "analyze": "api", "compare": "pairs.comparing", "trend": "pairs.trending", "describe": "api", "widen": "dtypes", "open": "seam:open_checkpoint", "OpenCheckpoint": "seam",
    "Checkpoint": "protocol", "Extent": "protocol", "Finding": "protocol", "Limits": "protocol", "Reader": "protocol",
    "TensorSpec": "protocol", "Result": "results", "detx": "spectral.detx", "Spectrum": "spectral.eigen",
    "spectrum": "spectral.eigen", "Missing": "spectral.missing", "TailFit": "spectral.powerlaw", "tail": "spectral.powerlaw",
    "FormatError": "errors", "LimitError": "errors", "NonFiniteError": "errors", "NotConvergedError": "errors", "DetX": "spectral.detx", "ReaderError": "errors",
    "UnknownFormatError": "errors", "UnsafeFileError": "errors", "UsageError": "errors", "WWStaticError": "errors",
    "stable_rank": "spectral.norms", "effective_rank": "spectral.ranks", "hard_rank": "spectral.ranks",
    "matrix_entropy": "spectral.ranks", "FolderReader": "protocol", "ModelFile": "protocol",
    "InlineExecutor": "workers.executors", "WorkerExecutor": "workers.executors", "WorkerDiedError": "errors",
    "Listing": "listing", "theory": "theory:*", "calibrate": "calibration",
    "sharpen": "transforms.transforming", "smooth": "transforms.transforming", "audit": "auditing", "Policy": "policies.policy", "Judgement": "policies.judgement",
}  # fmt: skip

__all__ = [
    "Checkpoint", "DetX", "Extent", "Finding", "FolderReader", "FormatError", "InlineExecutor",
    "LimitError", "Limits",
    "Missing", "ModelFile", "NonFiniteError", "NotConvergedError", "OpenCheckpoint", "Reader", "ReaderError", "Result",
    "Spectrum", "TailFit", "TensorSpec", "UnknownFormatError", "UnsafeFileError", "UsageError",
    "WorkerDiedError", "WorkerExecutor", "WWStaticError", "Judgement", "Policy", "analyze", "audit", "calibrate",
    "compare", "describe", "detx", "effective_rank", "hard_rank", "matrix_entropy", "open", "sharpen", "smooth", "spectrum", "stable_rank",
    "tail", "theory", "trend", "Listing", "widen",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ww_static' has no attribute '{name}'")
    module, _, attribute = _PLACES[name].partition(":")
    place = import_module(f"ww_static.{module}")
    value = place if attribute == "*" else getattr(place, attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
