"""Which files make a model: a file as it is named, a folder by what lies in it, a Hugging Face cache by its snapshot."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ww_static import registry, seam, storage, strays
from ww_static.errors import FormatError, UnsafeFileError
from ww_static.registry import ReaderEntry

_SHARD = re.compile(r"(?P<model>.+)-\d{5}(?P<rest>-of-\d{5}\.\w+)")
_LAYOUTS = ("flax", "onnx", "openvino", "original", "tf")  # folders of the same model in other formats
_GIT = f"{os.sep}.git{os.sep}"  # its objects are no files that anybody loads
_SNAPSHOT = re.compile(r"(/models--[^/]+)/snapshots/[0-9a-zA-Z]+")


@dataclass(frozen=True, slots=True)
class Source:
    """One model to open.

    Attributes:
        path: the file to open: the model itself, its index, or the first of its shards.
        shown: the file as it appears in results: relative to what the user named, never an absolute path.
        model_id: name of the model, unique in a run.
        root: the folder that was scanned; no link may lead out of it. None for a file that was named itself.
        beside: files of the same folder, or of one below it that is named for a format, that are models and that no
            reader claims; they are reported.
        error: why it cannot even be looked for.
        base: the file of the model that it was made from, when the two are to be read together (`based`).
    """

    path: str
    shown: str
    model_id: str
    root: str | None = None
    beside: tuple[str, ...] = ()
    error: FormatError | None = None
    base: str | None = None


def locate(arguments: Sequence[str], readers: Sequence[str] | None = None) -> list[Source]:
    """The models that paths, folders and glob patterns mean, in sorted order of each argument, each once.

    Args:
        arguments: what the user named. A path that does not exist stays in the list: opening it gives the error row.
        readers: names of the readers that may be asked which files of a folder are theirs.
    """
    return merged([found(argument, readers) for argument in arguments])


def found(argument: str, readers: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> list[Source]:
    """The models that one argument means, in sorted order, without what lies in a folder under a path that a pattern excludes."""
    entries = registry.installed(readers)
    sources: list[Source] = []
    paths = _expanded(argument)
    if not paths:
        error = FormatError("io_error", "", "no file matches the pattern; patterns are those of a shell: * ? [abc]", argument)
        return [replace(_single(argument, entries), error=error)]
    for path in paths:
        sources += _in_folder(path, entries, exclude) if os.path.isdir(path) else [_single(path, entries)]
    return sources


def merged(groups: Sequence[Sequence[Source]]) -> list[Source]:
    """The models of several arguments, each once, with names that tell them apart."""
    kept: dict[str, Source] = {}
    for source in (source for group in groups for source in group):
        real = _place(source)
        known = kept.setdefault(real, source)
        if known.root is not None and os.path.islink(known.path) and not os.path.islink(source.path):
            kept[real] = source  # the file itself, before a link that may lead out of its folder
    return distinct(list(kept.values()))


def _place(source: Source) -> str:
    """What two sources of one model have in common: the file, or the set that both are shards of by the word of their reader."""
    if "\0" in source.path:
        return source.path
    folder, name = os.path.split(source.path)
    shard = _SHARD.fullmatch(name)
    if source.root is None and shard and shard["model"] == source.model_id:
        return os.path.join(os.path.realpath(folder), shard["model"] + shard["rest"])
    return os.path.realpath(source.path)


def _expanded(argument: str) -> list[str]:
    if "\0" not in argument and not os.path.lexists(argument) and glob.has_magic(argument):
        return sorted(glob.glob(argument))
    return [argument]


def _single(path: str, entries: Sequence[ReaderEntry]) -> Source:
    name = os.path.basename(path)
    claimed = [one.model for one in seam.models_among([name], entries)]
    model = claimed[0] if claimed else Path(name).stem or name
    return Source(path, name, model or _name(os.path.dirname(os.path.abspath(path))))


def _name(folder: str) -> str:
    """What a model is called that is the whole of a folder."""
    return os.path.basename(os.path.abspath(folder)) or "model"


def _in_folder(folder: str, entries: Sequence[ReaderEntry], exclude: Sequence[str]) -> list[Source]:
    """The models below a folder; a folder without any is itself the source."""
    folder = folder.rstrip(os.sep) or os.sep
    root = _snapshot(folder)
    sources, repositories = _below(root, entries, exclude)
    if root != folder:
        more, others = _below(folder, entries, exclude, root)
        sources, repositories = sources + more, repositories | others
    for repository, chosen in sorted(repositories.items()):
        if any(source.path.startswith(os.path.join(chosen, "")) for source in sources) or chosen.endswith("snapshots"):
            continue
        with os.scandir(os.path.dirname(chosen)) as listing:
            others_here = sorted(
                entry.path for entry in listing if entry.is_dir(follow_symlinks=False) and entry.path != chosen
            )
        if any(_below(other, entries, exclude)[0] for other in others_here):
            sources.append(_without_model(repository, folder))
    name = os.path.basename(os.path.abspath(folder))
    return sorted(sources, key=lambda source: source.path) or [Source(folder, name, name)]


def _without_model(repository: str, folder: str) -> Source:
    """A cached repository whose current commit holds no model: an older one does, and nobody has looked at it."""
    problem = "refs/main names a snapshot without models, and another has some; name the folder of that one, or leave this out with --exclude"
    name = _name(repository)
    shown = os.path.relpath(repository, folder)
    return Source(
        repository, name if shown == os.curdir else shown, name, error=FormatError("unread_part", "", problem, repository)
    )


def _below(
    root: str, entries: Sequence[ReaderEntry], exclude: Sequence[str], known: str | None = None
) -> tuple[list[Source], dict[str, str]]:
    """The models below a folder, without those in the folder `known`: iterative, sorted, following no link to a folder.

    Returns:
        The models, and of each repository of the Hugging Face cache among the folders the snapshot that was looked into.
    """

    def is_wanted(entry: os.DirEntry[str]) -> bool:
        shown = os.path.relpath(entry.path, root)
        return not any(fnmatch.fnmatchcase(shown, pattern.rstrip("/")) for pattern in exclude)

    sources: list[Source] = []
    unread: list[str] = []
    unknown: list[str] = []
    repositories: dict[str, str] = {}
    waiting = [root]
    while waiting:
        here = waiting.pop()
        if (chosen := _snapshot(here)) != here:
            repositories[here] = chosen
        try:
            with os.scandir(here) as listing:
                entries_here = sorted((entry for entry in listing if is_wanted(entry)), key=lambda entry: entry.name)
        except OSError as error:
            sources.append(_closed(here, os.path.relpath(here, root), error))
            continue
        folders = [entry.path for entry in reversed(entries_here) if entry.is_dir(follow_symlinks=False)]
        waiting.extend(path for path in folders if path != known and not _is_of_cache(path, repositories))
        sources.extend(_not_followed(root, entry.path) for entry in entries_here if _leads_out(root, entry))
        names = [entry.name for entry in entries_here if not entry.is_dir(follow_symlinks=False)]
        claimed = seam.models_among(names, entries)
        sources.extend(_listed(root, os.path.join(here, one.file), one.model or _name(here)) for one in claimed)
        files = {name for one in claimed for name in (one.file, *one.parts)}
        left = [os.path.join(here, name) for name in names if name not in files]
        unread.extend(path for path in left if strays.is_model(path))
        unknown.extend(path for path in left if strays.says_nothing(path) and not _is_stored(path, root, repositories))
    looked = unknown[: strays.MOST_LOOKED_INTO]
    unread.extend(path for path in looked if not os.path.isdir(path) and strays.is_pickle(root, os.path.relpath(path, root)))
    if len(unknown) > len(looked):
        sources.append(_too_many(root, len(unknown)))
    return _with_variants(root, sources, unread), repositories


def _is_of_cache(folder: str, repositories: Mapping[str, str]) -> bool:
    """Whether a folder of the Hugging Face cache is left out: another snapshot, or the list of what a repository lacks."""
    above, name = os.path.split(folder)
    if name == ".no_exist" and above in repositories:
        return True
    chosen = repositories.get(os.path.dirname(above)) if os.path.basename(above) == "snapshots" else None
    return chosen is not None and chosen not in (folder, above)


def _is_stored(path: str, root: str, repositories: Mapping[str, str]) -> bool:
    """Whether a file is an object of git, a blob of the Hugging Face cache or one of its refs: nobody loads it by its name."""
    above, name = os.path.split(os.path.dirname(path))
    return _GIT in path[len(root) :] or (name in ("blobs", "refs") and above in repositories)


def _leads_out(root: str, entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to a folder that is not listed under its own name."""
    if not entry.is_symlink() or not os.path.isdir(entry.path):
        return False
    inside = os.path.realpath(root)
    return os.path.commonpath((inside, os.path.realpath(entry.path))) != inside


def _not_followed(root: str, path: str) -> Source:
    """A link to a folder elsewhere: models may be in it."""
    problem = "a link to a folder outside the scanned one is not followed; name that folder itself, or leave the link out with --exclude"
    return Source(path, os.path.relpath(path, root), _name(path), error=UnsafeFileError("unsafe_link", "", problem, path))


def _too_many(folder: str, count: int) -> Source:
    """A folder of more files than are looked into: models may be among the others."""
    problem = f"{count} files have names that say nothing, and {strays.MOST_LOOKED_INTO} were looked into; leave some out with --exclude"
    name = _name(folder)
    return Source(folder, name, name, error=FormatError("limit", "", problem, folder))


def _closed(folder: str, shown: str, error: OSError) -> Source:
    """A folder that cannot be looked into: models may be in it."""
    problem = f"{storage.io_error(error).problem}: the folder cannot be listed; give the user who runs this the right to, or leave it out with --exclude"
    name = _name(folder)
    return Source(folder, name if shown == os.curdir else shown, name, error=FormatError("io_error", "", problem, folder))


def _listed(root: str, path: str, model: str) -> Source:
    return Source(path, os.path.relpath(path, root), model, root)


def _with_variants(root: str, sources: Sequence[Source], unread: Sequence[str]) -> list[Source]:
    """The models, and the files that no reader claims: variants of a model in their folder, or in the one
    above it when theirs is named for a format, else models.

    A file that is its own model and cannot be read becomes an error row; nothing is left out in silence.
    """
    result = list(sources)
    shortest = sorted(enumerate(result), key=lambda one: len(one[1].model_id), reverse=True)  # ``model``, not ``model.fp16``
    places = {os.path.dirname(source.path): number for number, source in shortest}
    for path in unread:
        above = os.path.dirname(path)
        if above not in places and above != root and os.path.basename(above) in _LAYOUTS:
            above = os.path.dirname(above)
        if above in places:
            owner = result[places[above]]
            result[places[above]] = replace(owner, beside=(*owner.beside, os.path.relpath(path, root)))
        else:
            result.append(_listed(root, path, Path(path).stem))
    return result


def _snapshot(folder: str) -> str:
    """The snapshot that ``refs/main`` names, when `folder` is a repository of the Hugging Face cache."""
    snapshots = os.path.join(folder, "snapshots")
    if not os.path.basename(os.path.abspath(folder)).startswith("models--") or not os.path.isdir(snapshots):
        return folder
    revision = _revision(os.path.join(folder, "refs", "main"))
    if re.fullmatch(r"[0-9a-zA-Z]+", revision) and os.path.isdir(os.path.join(snapshots, revision)):
        return os.path.join(snapshots, revision)
    return snapshots


def _revision(path: str) -> str:
    """The first line of a short file; nothing when it cannot be had at once."""
    try:
        descriptor = storage.open_file(path)
        try:
            return storage.read_at(descriptor, 0, min(os.fstat(descriptor).st_size, 200), "").decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
    except FormatError:
        return ""


def distinct(sources: list[Source]) -> list[Source]:
    """Names that two models share are extended by the folders that tell them apart, relative to the one that holds them all.

    The commit of a cached repository is no part of a name, unless there are several: its next commit is the same model.
    """
    names = Counter(source.model_id for source in sources)
    if len(names) == len(sources):
        return sources
    folders = [os.path.dirname(os.path.abspath(source.path)) for source in sources]
    longer = _extended(sources, [_SNAPSHOT.sub(r"\1", folder) for folder in folders], names)
    if len({source.model_id for source in longer}) < len(sources):
        longer = _extended(sources, folders, names)
    taken: dict[str, int] = {}
    result = []
    for source in longer:
        count = taken[source.model_id] = taken.get(source.model_id, 0) + 1
        result.append(source if count == 1 else replace(source, model_id=f"{source.model_id}#{count}"))
    return result


def _extended(sources: Sequence[Source], folders: Sequence[str], names: Mapping[str, int]) -> list[Source]:
    """The models, those of the same name under their folders."""
    root = os.path.commonpath(folders)
    return [
        replace(source, model_id=os.path.normpath(os.path.join(os.path.relpath(folder, root), source.model_id)))
        if names[source.model_id] > 1
        else source
        for source, folder in zip(sources, folders, strict=True)
    ]
