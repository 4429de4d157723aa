"""A spectrum waits only for the surveys of tensors that could hold the same values: those of the same dtype and shape.

What is a copy of what is known then, whatever order the surveys end in: nothing is computed twice, and rows do not depend
on the number of workers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ww_static.layout.layers import LayerView

_Group = tuple[tuple[str, tuple[int, ...]], ...]


class Releases:
    """The views of one model that wait for surveys.

    Args:
        views: all of them, by place.
        wanted: names of the tensors that will be surveyed.
    """

    def __init__(self, views: Sequence[LayerView], wanted: Collection[str]) -> None:
        self._views = views
        self._places: dict[_Group, list[int]] = {}
        self._missing: dict[_Group, set[str]] = {}
        self._groups: dict[str, set[_Group]] = {}
        for place, view in enumerate(views):
            group = tuple((spec.dtype, spec.shape) for spec in view.tensors)
            self._places.setdefault(group, []).append(place)
            missing = self._missing.setdefault(group, set())
            for spec in view.tensors:
                if spec.name in wanted:
                    missing.add(spec.name)
                    self._groups.setdefault(spec.name, set()).add(group)

    def at_once(self) -> list[int]:
        """Places of the views that wait for nothing, in order."""
        return self._free(group for group, missing in self._missing.items() if not missing)

    def surveyed(self, names: Iterable[str]) -> list[int]:
        """Places of the views that wait for nothing any more, now that these surveys have ended, in order."""
        free = []
        for name in names:
            for group in self._groups.pop(name, ()):
                self._missing[group].discard(name)
                if not self._missing[group]:
                    free.append(group)
        return self._free(free)

    def _free(self, groups: Iterable[_Group]) -> list[int]:
        return sorted(place for group in groups for place in self._places[group])
