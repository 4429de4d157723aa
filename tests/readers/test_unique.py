"""Names that many things want: each its own, the numbers in order, at one price."""

from __future__ import annotations

from ww_static_readers._unique import UniqueNames


def test_the_second_of_one_name_gets_a_number_that_no_other_name_has() -> None:
    names = UniqueNames()
    assert [names.take(one) for one in ("a", "a#2", "a", "a", "a#2", "b", "a")] == [
        "a",
        "a#2",
        "a#3",
        "a#4",
        "a#2#2",
        "b",
        "a#5",
    ]
    assert len(names) == 7


def test_names_that_look_numbered_already_are_passed_over_once() -> None:
    names = UniqueNames()
    for number in range(2, 200_000):
        names.take(f"a#{number}")
    assert names.take("a") == "a"
    assert names.take("a") == "a#200000"
    assert names.take("a") == "a#200001"


def test_half_a_million_things_of_one_name_each_get_their_own() -> None:
    names = UniqueNames()  # 10^11 look-ups, if each began to count at 2
    assert [names.take("w") for _ in range(500_000)][-1] == "w#500000"
    assert len(names) == 500_000
