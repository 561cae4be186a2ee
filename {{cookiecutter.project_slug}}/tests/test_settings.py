"""Settings: from the environment, `.env`, or their defaults."""

import re
from pathlib import Path
from typing import Any

import pytest

from {{ cookiecutter.project_slug }}.settings import Settings, SettingsError, load

KEY = {"SECRET_KEY": "k"}


def test_the_environment_goes_before_dotenv_and_dotenv_before_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("FLASK_SECRET_KEY=file\nFLASK_CACHE_VERSION=file\n")
    monkeypatch.setenv("FLASK_CACHE_VERSION", "environment")
    settings = load()
    assert settings["SECRET_KEY"] == "file"
    assert settings["CACHE_VERSION"] == "environment"
    assert settings["CACHE_MAX_PAGE_BYTES"] == 1_000_000


def test_a_string_is_never_read_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A numeric secret must not become a number: every session would be an error."""
    monkeypatch.setenv("FLASK_SECRET_KEY", "12345")
    monkeypatch.setenv("FLASK_CACHE_VERSION", "true")
    assert (load()["SECRET_KEY"], load()["CACHE_VERSION"]) == ("12345", "true")


@pytest.mark.parametrize("text", ["a,b", " a , b ,", '["a", "b"]'])
def test_a_list_takes_commas_or_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FLASK_SECRET_KEY_FALLBACKS", text)
    assert load(KEY)["SECRET_KEY_FALLBACKS"] == ["a", "b"]


@pytest.mark.parametrize(("text", "value"), [("True", True), ("FALSE", False), ("1", True)])
def test_a_boolean_takes_any_case(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("FLASK_DEBUG", text)
    assert load(KEY)["DEBUG"] is value


def test_what_flask_reads_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`FLASK_DEBUG=off` switches the debugger of `flask run` on."""
    monkeypatch.setenv("FLASK_DEBUG", "Off")
    with pytest.raises(SettingsError, match=r"FLASK_DEBUG.*What works: False"):
        load(KEY)


@pytest.mark.parametrize("name", ["SECRET_KEY", "SECRET_KEY_FALLBACKS", "MONITORING_PASSWORD"])
def test_bytes_that_are_no_text_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A secret key of such bytes makes every request an error, and nobody can send a password."""
    monkeypatch.setenv(f"FLASK_{name}", "hush\udcff")
    with pytest.raises(SettingsError, match=f"FLASK_{name}: .*UTF-8.*What works: .") as caught:
        load({} if name == "SECRET_KEY" else KEY)
    assert "hush" not in caught.value.message


def test_every_problem_is_named_at_once_with_a_value_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLASK_CACHE_DEFAULT_TIMEOUT", "five minutes")
    monkeypatch.setenv("FLASK_CACHE_KEY_PREFIX", "a:b")
    with pytest.raises(SettingsError) as caught:
        load()
    for name, works in {
        "FLASK_CACHE_DEFAULT_TIMEOUT": "What works: {{ cookiecutter.default_timeout }}",
        "FLASK_CACHE_KEY_PREFIX": "What works: {{ cookiecutter.project_slug }}",
        "FLASK_SECRET_KEY": "secrets.token_hex(32)",
    }.items():
        line = next(line for line in str(caught.value).splitlines() if f"{name}:" in line)
        assert works in line
    assert "five minutes" in str(caught.value)


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_SECRET_KEY_FALLBACKS", '["hush", {}]')
    with pytest.raises(SettingsError) as caught:
        load(KEY)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("value", ["", None])
def test_production_without_a_secret_refuses_to_start(value: Any) -> None:
    with pytest.raises(SettingsError, match="FLASK_SECRET_KEY"):
        load({"SECRET_KEY": value})


def test_debug_without_a_secret_uses_a_fixed_one() -> None:
    assert load({"DEBUG": True})["SECRET_KEY"] == "only for development"


def test_what_is_no_setting_is_passed_on() -> None:
    assert load({**KEY, "TESTING": True})["TESTING"] is True


def test_the_example_lists_every_setting() -> None:
    example = Path(__file__).parents[1].joinpath(".env.example").read_text()
    listed = set(re.findall(r"^#? ?FLASK_(\w+)=", example, re.MULTILINE))
    assert set(Settings.model_fields) <= listed
