"""What a run on this machine would use: versions, BLAS, memory, processors, readers."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator

from ww_static import memory, registry
from ww_static.plan import Settings
from ww_static.planning import chosen_backend
from ww_static.version import __version__
from ww_static.workers.executors import hired


def report() -> Iterator[tuple[str, str]]:
    """Pairs of a name and what was found; nothing leaves the machine."""
    yield "ww-static", __version__
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", f"{platform.system()} {platform.machine()}"
    for package in ("numpy", "ml-dtypes", "h5py", "pyarrow", "typer", "rich", "pebble", "threadpoolctl", "pandas", "polars"):
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"
    yield from _blas()
    yield "processors", f"{memory.processors()} usable"
    yield "memory", f"{memory.available_bytes() / 2**20:.0f} MiB"
    limit = memory.cgroup_memory()
    yield "container memory limit", "none" if limit is None else f"{limit / 2**20:.0f} MiB"
    yield "default budget", f"{memory.SHARE * memory.available_bytes() / 2**20:.0f} MiB"
    for entry in registry.installed():
        yield f"reader {entry.name}", f"{entry.package} {entry.version}"


def _blas() -> Iterator[tuple[str, str]]:
    import numpy  # noqa: F401  (its BLAS is what is looked at)
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library.get("user_api") == "blas":
            words = (library.get("internal_api"), library.get("version"), library.get("architecture"))
            yield "blas", " ".join(str(word) for word in words if word) + f", {library['num_threads']} threads before a run"
    with hired(1) as workers:
        backend = chosen_backend(Settings(), workers)
    yield "eigenvalues", f"of the Gram matrix, by {backend}; SVD where its floor matters"
