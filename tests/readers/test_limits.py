"""Every field of `Limits` has a test among those of the readers."""

from __future__ import annotations

import re
from pathlib import Path

from ww_static.protocol import Limits


def test_every_limit_has_a_test_beside_this_file() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    tested = [name for text in texts for name in re.findall(r"(?m)^(?:def )?test_limit_(\w+)", text)]
    for field in Limits.__dataclass_fields__:
        assert any(name.startswith(field) for name in tested), field
