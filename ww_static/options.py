"""What a user can ask of an analysis, checked once, and the part of it that results depend on."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec

from ww_static.errors import UsageError, escape

GROUPS = ("default", "tail", "alternatives", "randomize", "vectors", "bootstrap", "gof", "esd")
CONV = ("pooled", "slices", "flatten")
ESD_NORM = ("none", "1/N")
ESD = ("none", "f64", "f32")
PRECISION = ("exact", "fast")
FIT = ("PL", "TPL", "E_TPL")
CROSS_CHECK = ("none", "powerlaw")
KINDS = (
    "dense", "attention", "head", "embedding", "conv1d", "conv2d", "conv3d", "conv_transpose", "fused_qkv", "fused_gate_up",
    "expert", "recurrent", "norm", "bias", "scale", "buffer", "state_space", "quant_aux", "lora", "lora_delta",
    "optimizer", "other",
)  # fmt: skip
DEFAULT_MIN_EVALS = 8
LONGEST_PATTERN = 1000
LONGEST_NAME = 65_536  # what a pattern looks at


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that can change a number in a row, and nothing else.

    Attributes:
        metrics: groups of columns to compute.
        layers: patterns of tensor names, any of which selects; empty selects all.
        kinds: kinds to select; empty selects all.
        min_evals: rows with fewer eigenvalues are skipped (``size_limit``); without it they only get no fit below 8.
        max_evals: rows with more eigenvalues are skipped (``size_limit``).
        max_m: matrices with a larger M are skipped (``profile``): only their values are read.
        conv: ``pooled``, ``slices`` or ``flatten``.
        esd_norm: ``none`` or ``1/N``.
        esd: ``none``, or the precision that the ESD arrays are kept with.
        fit: the law of the tail: ``PL`` (power law), ``TPL`` (with a cut-off), ``E_TPL`` (the same from near the peak of the ESD on).
        xmax: -k leaves out the k largest eigenvalues before the tail is fitted; 0 leaves out none.
        top_k: only so many of the largest eigenvalues, of single matrices.
        cross_check: ``none``, or the package that fits the tail once more.
        precision: ``exact`` (float64), or ``fast`` (float32: metrics of the tail and norms only, to a stated error).
        seed: of everything random.
        full_replicas: all eigenvalues of every replica of a randomized matrix, not of the first one only.
        blas_threads: of each worker; more than one change the last bits of what they compute.
        base: name of the model whose weights are subtracted, or that an adapter is put on.
    """

    metrics: tuple[str, ...] = ("default",)
    layers: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    min_evals: int | None = None
    max_evals: int | None = None
    max_m: int | None = None
    conv: str = "pooled"
    esd_norm: str = "none"
    esd: str = "none"
    fit: str = "PL"
    xmax: int = 0
    top_k: int | None = None
    cross_check: str = "none"
    precision: str = "exact"
    seed: int = 0
    full_replicas: bool = False
    blas_threads: int = 1
    base: str | None = None

    def __post_init__(self) -> None:
        chosen = set(self.metrics)
        if "all" in chosen:
            chosen = {*(chosen - {"all"}), *GROUPS}
        for group in sorted(chosen - set(GROUPS)):
            raise UsageError(f"metric group '{group}' is not known; known are: {', '.join(GROUPS)}, all")
        object.__setattr__(self, "metrics", tuple(group for group in GROUPS if group in chosen))
        choices = {
            "conv": CONV,
            "esd-norm": ESD_NORM,
            "esd": ESD,
            "fit": FIT,
            "cross-check": CROSS_CHECK,
            "precision": PRECISION,
        }
        for name, allowed in choices.items():
            value = getattr(self, name.replace("-", "_"))
            if value not in allowed:
                raise UsageError(f"--{name} is {' or '.join(allowed)}, not '{value}'")
        for kind in self.kinds:
            if kind not in KINDS:
                raise UsageError(f"kind '{kind}' is not known; known are: {', '.join(KINDS)}")
        if self.cross_check != "none" and find_spec(self.cross_check) is None:
            raise UsageError(
                f"--cross-check {self.cross_check} needs a package that is not installed: pip install 'ww-static[crosscheck]'"
            )
        if self.top_k is not None and self.precision == "fast":
            raise UsageError("--top-k needs --precision exact")
        if self.fit != "PL" and self.precision == "fast":
            raise UsageError(f"--fit {self.fit} needs --precision exact")
        if self.full_replicas and not self.randomizes:
            raise UsageError("--full-replicas needs --randomize")
        self._check_numbers()
        for pattern in self.layers:
            matcher(pattern)

    def _check_numbers(self) -> None:
        for name, count in (("min-evals", self.min_evals), ("max-evals", self.max_evals), ("top-k", self.top_k)):
            if count is not None and (type(count) is not int or count < 1):
                raise UsageError(f"--{name} is a positive number, not {count!r}")
        if type(self.xmax) is not int or self.xmax > 0:
            raise UsageError(f"--xmax is -k, which leaves out the k largest eigenvalues, not {self.xmax!r}")
        if type(self.seed) is not int or self.seed < 0:
            raise UsageError(f"--seed is a number from 0, not {self.seed!r}")
        if type(self.blas_threads) is not int or self.blas_threads < 1:
            raise UsageError(f"--blas-threads is a positive number, not {self.blas_threads!r}")

    @property
    def fit_minimum(self) -> int:
        """Fewest eigenvalues that are fitted."""
        return self.min_evals or DEFAULT_MIN_EVALS

    @property
    def wants_esd(self) -> bool:
        """Whether rows carry arrays."""
        return self.esd != "none" or "esd" in self.metrics

    def asks(self, group: str) -> bool:
        """Whether the columns of a group are computed."""
        if group == "crosscheck":
            return self.cross_check != "none"
        return self.wants_esd if group == "esd" else group in self.metrics

    @property
    def randomizes(self) -> bool:
        """Whether matrices are permuted."""
        return "randomize" in self.metrics

    def selects(self, name: str, kind: str) -> bool:
        """Whether a tensor was asked for."""
        if self.kinds and kind not in self.kinds:
            return False
        return not self.layers or any(matcher(pattern)(name[:LONGEST_NAME]) for pattern in self.layers)

    def canonical(self) -> str:
        """The options as canonical JSON: what the Parquet metadata records."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    def params_id(self, definitions_version: str) -> str:
        """Name of this set of options under one version of the definitions: 16 hexadecimal digits."""
        return hashlib.sha256(f"{definitions_version}\n{self.canonical()}".encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def matcher(pattern: str, subject: str = "--layers") -> Callable[[str], object]:
    """A shell glob on the whole name, or a regular expression after ``re:``, searched anywhere in it.

    Raises:
        UsageError: the pattern is too long or no regular expression; `subject` is what the message calls it.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise UsageError(f"a {subject} pattern has {len(pattern)} characters, limit {LONGEST_PATTERN}")
    try:
        if pattern.startswith("re:"):
            return re.compile(pattern[3:]).search
        return re.compile(fnmatch.translate(pattern)).fullmatch
    except re.error as error:
        raise UsageError(f"{subject} '{pattern}' is not a regular expression: {error}") from error


def parse_bytes(text: str | int) -> int:
    """A size such as ``600MiB``, ``2 GB`` or ``1048576``, in bytes."""
    if isinstance(text, int) and not isinstance(text, bool):
        size: float = text
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", str(text), re.IGNORECASE)
        if match is None:
            raise UsageError(f"'{text}' is not a size such as 600MiB or 2GB")
        power = " kmgt".index(match[2].lower() or " ")
        size = float(match[1]) * (1024 if match[3] or not match[2] else 1000) ** power
    if size <= 0:
        raise UsageError(f"a size must be positive, not {text}")
    return int(size)


def path_text(path: str, name: str = "path") -> str:
    """`path`, refused when no file can be called so.

    Args:
        path: as a caller gave it.
        name: what it is for, in the refusal.

    Raises:
        UsageError: it is empty, or holds a zero byte or a character that no file system has.
    """
    if not path:
        raise UsageError(f"an empty {name} was given; name a file or a folder")
    try:
        unusual = b"\0" in os.fsencode(path)
    except UnicodeEncodeError:
        unusual = True
    if unusual:
        raise UsageError(f"no file can be called by the {name} '{escape(path)}'")
    return path
