"""Which policy file is obeyed: the nearest upwards, never one inside what is audited."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from test_policy import written
from ww_static.errors import PolicyError, UsageError
from ww_static.policies import discovery
from ww_static.policies.policy import Policy


def test_the_nearest_file_upwards_wins_and_nothing_is_merged(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    assert discovery.found(str(deep)) is None
    top = written(tmp_path, 'schema = 1\nfail_on = "never"\nprofile = "fast"')
    assert discovery.found(str(deep)) == str(top)
    written(tmp_path / "a", "[tool.other]\nx = 1", "pyproject.toml")
    assert discovery.found(str(deep)) == str(top)
    shared = written(tmp_path / "a", '[tool.ww-static]\nschema = 1\nfail_on = "warn"', "pyproject.toml")
    assert discovery.found(str(deep)) == str(shared)
    policy = discovery.chosen(None, str(deep))
    assert (policy.fail_on, policy.profile, policy.source) == ("warn", "full", os.path.join("..", "pyproject.toml"))
    own = written(tmp_path / "a", "schema = 1")
    assert discovery.found(str(deep)) == str(own)
    assert discovery.chosen(None, None) == Policy()


def test_the_search_ends_at_the_root_of_the_repository(tmp_path: Path) -> None:
    written(tmp_path, "schema = 1")
    inner = tmp_path / "repository"
    (inner / ".git").mkdir(parents=True)
    assert discovery.found(str(inner)) is None


def test_a_pyproject_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    written(tmp_path, "[tool", "pyproject.toml")
    with pytest.raises(PolicyError, match=r"^pyproject\.toml: not TOML"):
        discovery.found(str(tmp_path))


def test_a_policy_that_was_found_in_what_is_audited_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    models = tmp_path / "models"
    written(models, "schema = 1")
    monkeypatch.chdir(models)
    other = tmp_path / "other"
    other.mkdir()
    for audited in (".", str(tmp_path), "../mod*", str(models)):
        with pytest.raises(UsageError, match=r"obey it with --policy ww-static\.toml, or use none with --no-config"):
            discovery.chosen(None, str(models), [str(other), audited])
        assert discovery.chosen("ww-static.toml", str(models), [audited]).source == "ww-static.toml"
        assert discovery.chosen(None, None, [audited]).source is None
    for audited in (str(other), "model.safetensors", "nothing", "no*", "nul\0"):
        assert discovery.chosen(None, str(models), [audited]).source == "ww-static.toml"


def test_a_link_does_not_carry_a_policy_out_of_what_is_audited(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    inside = written(tmp_path / "models", "schema = 1", "hidden.toml")
    (tmp_path / "ww-static.toml").symlink_to(inside)
    with pytest.raises(UsageError, match="silence every finding"):
        discovery.chosen(None, str(tmp_path), [str(tmp_path / "models")])
    (tmp_path / "alias").symlink_to(tmp_path / "models")
    with pytest.raises(UsageError, match="silence every finding"):
        discovery.chosen(None, str(tmp_path), [str(tmp_path / "alias")])


def test_naming_a_file_and_asking_for_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use one of them"):
        discovery.chosen(str(written(tmp_path, "schema = 1")), None)
