"""Names that no two things share: the second thing of one name gets `#2` behind it, the third `#3`."""

from __future__ import annotations


class UniqueNames:
    """The names that are taken. However many things want one name, each costs the same: the next number is remembered."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # name -> the last number that was put behind it

    def __len__(self) -> int:
        """How many names are taken."""
        return len(self._last)

    def take(self, wanted: str) -> str:
        """The name itself, or with the first number behind it that makes it unlike every other."""
        number = self._last.get(wanted)
        if number is None:
            self._last[wanted] = 1
            return wanted
        name = wanted
        while name in self._last:  # what was taken as it stood may look numbered
            number += 1
            name = f"{wanted}#{number}"
        self._last[wanted], self._last[name] = number, 1
        return name
