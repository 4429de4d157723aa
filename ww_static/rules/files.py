"""WW001 to WW019: what is wrong with the file itself, from what its reader said and could not read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ww_static import strays
from ww_static.rows import FindingRow, LayerRow
from ww_static.rules.rule import Evidence, Found, Info, Outcome, Rule, Setting, Severity, Warn

# Category of an error or of a finding of a reader -> the code that reports it. What is not listed is WW001 as an error.
CODE_OF = {
    "io_error": "WW001", "not_regular_file": "WW001", "reader_crash": "WW001", "internal_error": "WW001", "interrupted": "WW001",
    "nothing_to_analyse": "WW001", "no_tensors": "WW001", "limit": "WW001", "bomb": "WW001", "memory_limit": "WW001",
    "budget_exceeded": "WW002", "time_limit": "WW002", "unsupported": "WW002", "unsupported_dtype": "WW002", "unsupported_rank": "WW002",
    "unsupported_layout": "WW002", "quantized": "WW002", "no_data": "WW002", "no_pair": "WW002", "shape_mismatch": "WW002", "not_converged": "WW002",
    "bad_header": "WW003", "truncated": "WW003", "size_mismatch": "WW003", "bad_offsets": "WW003", "corrupt_archive": "WW003",
    "duplicate_name": "WW003", "overflow": "WW003", "unknown_dtype": "WW003", "corrupt": "WW003", "trailing_data": "WW003",
    "unsafe_pickle": "WW004", "embedded_code": "WW005", "unknown_global": "WW005",
    "path_escape": "WW006", "unsafe_link": "WW006", "suspicious_reference": "WW006",
    "missing_part": "WW007", "index_mismatch": "WW007", "unread_part": "WW007",
    "lfs_pointer": "WW008", "changed_while_reading": "WW009", "duplicate_variant": "WW011", "crc_mismatch": "WW012", "checksum_mismatch": "WW012",
}  # fmt: skip
# What no rule of this page reports unless something is unread because of it, and why.
NOBODYS = {
    "nonfinite": "WW101 sees it in the rows",
    "degenerate": "WW102, WW103 and WW104 see it in the rows",
    "non_float": "integers and text are seldom weights; codes that look like some are WW002 by their rows",
    "base_model": "an adapter says whose it is, as it should",
    "unnamed": "a tensor is listed by its place, and read",
    "bad_config": "the model is read without what its configuration would have said",
    "hard_link": "caches and package managers make hard links of their own files",
}


def _of(code: str) -> Callable[[Evidence, Setting], Iterable[Found]]:
    """The check of a rule that reports what readers found, under their categories."""

    def check(evidence: Evidence, _: Setting) -> Iterable[Found]:
        for row in evidence.rows:
            if row.status == "error" and _code(row.category) == code:
                yield _unread(row)
        for finding in evidence.findings:
            if (finding.inconclusive or finding.category not in NOBODYS) and _code(finding.category) == code:
                yield _seen(finding)

    return check


def _code(category: str | None) -> str:
    return CODE_OF.get(category or "", "WW001")


def _unread(row: LayerRow) -> Found:
    outcome: Outcome = "internal_error" if row.category == "internal_error" else "unreadable"
    return Found(message=row.message or "", file=row.file, category=row.category, outcome=outcome)


def _seen(finding: FindingRow) -> Found:
    outcome: Outcome = (
        "internal_error" if finding.category == "internal_error" else "inconclusive" if finding.inconclusive else "violation"
    )
    return Found(
        message=finding.message or "",
        name=finding.name,
        file=finding.file,
        where=finding.where,
        category=finding.category,
        outcome=outcome,
    )


class Variant(Info, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of WW011.

    Attributes:
        pickle: the severity of a file that is loaded by unpickling, to judge by its name; ``severity`` is that of others.
    """

    pickle: Severity = "warn"


def _variants(evidence: Evidence, settings: Variant) -> Iterable[Found]:
    for one in _of("WW011")(evidence, settings):
        yield replace(one, severity=settings.pickle) if strays.is_unpickled(one.where or "") else one


def _categories(code: str) -> str:
    return ", ".join(f"`{category}`" for category, one in CODE_OF.items() if one == code)


def _rule(code: str, name: str, title: str, wrong: str, fix: str, settings: type[Setting] = Setting) -> Rule:
    return Rule(code, name, title, f"categories {_categories(code)}", wrong, fix, settings, _of(code))


FILE_RULES = (
    _rule("WW001", "unreadable", "A file could not be read, or holds nothing to analyse",
          "A limit may be too low for an honest file; a file without matrices, such as one of scales, may be meant so.",
          "Look at the message; raise the limit that it names, or fetch the file again."),
    _rule("WW002", "unsupported", "A tensor could not be analysed, so that nobody knows what is in it",
          "The tensor may be harmless; nobody has looked. A table of small integers may be named like a weight.",
          "Fetch the file with its scales, use a release that decodes it, or name what is known to be fine in a suppression."),
    _rule("WW003", "malformed", "A file is not what its format says", "Some writers leave harmless bytes behind.",
          "Fetch the file again, or write it again with the library of its format."),
    _rule("WW004", "unsafe-pickle", "A pickle would call or build something that is no tensor", "A training state may hold objects of its own classes.",
          "Convert the file to safetensors where it came from; do not load it."),
    _rule("WW005", "embedded-code", "A file carries code, or loading it would import some",
          "TorchScript archives always do, and so does a module that was pickled whole.", "Ask for the weights alone.", Warn),
    _rule("WW006", "path-escape", "A reference leads out of the model's folder, or is not followed", "Links of a content store are meant so.",
          "Copy what it leads to into the folder."),
    _rule("WW007", "shard-mismatch", "Index and shards disagree, or a part is missing",
          "A total in the index may be stale. Shards that exchanged names are seen by their index; without one they make the same model.",
          "Fetch all shards and the index of one revision."),
    _rule("WW008", "lfs-pointer", "A Git LFS pointer lies in place of the file", "A text file of that form is never a model.", "Run `git lfs pull`, or `--on-lfs-pointers warn` where they are not fetched on purpose."),
    _rule("WW009", "changed", "A file changed while it was read", "A download may not have ended.", "Audit it again when nobody writes to it."),
    Rule("WW011", "duplicate-variant", "A file of the same model was not read", f"categories {_categories('WW011')}",
         "The other file may be the same model in another format, and nobody may ever load it.", "Audit it by its name, or exclude it.", Variant, _variants),
    _rule("WW012", "checksum", "Stored values, or a file of the Hugging Face cache, differ from their checksum", "A writer may have stored a wrong one.", "Fetch the file again."),
)  # fmt: skip
