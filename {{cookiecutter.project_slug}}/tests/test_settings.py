"""Settings: from the environment, `.env`, or their defaults."""

import re
from pathlib import Path
from typing import Any

import pytest

from {{ cookiecutter.project_slug }}.settings import Settings, SettingsError, load

KEY = {"SECRET_KEY": "a secret key for tests"}


def test_the_environment_goes_before_dotenv_and_dotenv_before_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("FLASK_SECRET_KEY=a-key-in-the-file\nFLASK_CACHE_VERSION=file\n")
    monkeypatch.setenv("FLASK_CACHE_VERSION", "environment")
    settings = load()
    assert settings["SECRET_KEY"] == "a-key-in-the-file"
    assert settings["CACHE_VERSION"] == "environment"
    assert settings["CACHE_MAX_PAGE_BYTES"] == 1_000_000


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SECRET_KEY", "12345678901234567890", "12345678901234567890"),  # text, not a number
        ("CACHE_VERSION", "true", "true"),
        ("SECRET_KEY_FALLBACKS", " a-former-secret-key , ", ["a-former-secret-key"]),
        ("SECRET_KEY_FALLBACKS", '["a-former-secret-key"]', ["a-former-secret-key"]),
        ("CACHE_PRIVATE_HEADERS", "X-User, X-Key", ["X-User", "X-Key"]),
        ("DEBUG", "True", True),
        ("DEBUG", "FALSE", False),
        ("DEBUG", "1", True),
    ],
)
def test_text_is_read_as_the_type_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any
) -> None:
    monkeypatch.setenv(f"FLASK_{name}", text)
    assert load({} if name == "SECRET_KEY" else KEY)[name] == value


@pytest.mark.parametrize(
    ("name", "text", "works"),
    [
        ("CACHE_DEFAULT_TIMEOUT", "five minutes", "{{ cookiecutter.default_timeout }}"),
        ("CACHE_KEY_PREFIX", "a:b", "{{ cookiecutter.project_slug }}"),
        ("DEBUG", "Off", "False"),  # with which the command `flask` would switch debug on
        ("SECRET_KEY", "", "the output of: .*secrets.token_hex"),
        ("SECRET_KEY", "hush\udcff", "the output of"),  # bytes that are not UTF-8
        ("SECRET_KEY_FALLBACKS", '["hush", {}]', "old-key"),
        ("MONITORING_PASSWORD", "hush\udcff", "a long password"),
    ],
)
def test_a_bad_setting_is_an_error_that_names_a_value_that_works_and_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, works: str
) -> None:
    monkeypatch.setenv(f"FLASK_{name}", text)
    with pytest.raises(SettingsError, match=f"FLASK_{name}: .* What works: {works}") as caught:
        load({} if name == "SECRET_KEY" else KEY)
    assert "hush" not in caught.value.message


def test_all_errors_are_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_CACHE_DEFAULT_TIMEOUT", "five minutes")
    monkeypatch.setenv("FLASK_CACHE_VERSION", " ")
    with pytest.raises(SettingsError) as caught:
        load()
    shown = set(re.findall(r"FLASK_\w+", caught.value.message))
    assert shown == {"FLASK_SECRET_KEY", "FLASK_CACHE_DEFAULT_TIMEOUT", "FLASK_CACHE_VERSION"}
    assert "five minutes" in caught.value.message


def test_debug_needs_no_secret_key() -> None:
    assert load({"DEBUG": True})["SECRET_KEY"] == "only for development"


def test_other_configuration_is_passed_on() -> None:
    assert load({**KEY, "TESTING": True})["TESTING"] is True


def test_the_example_lists_every_setting() -> None:
    example = Path(__file__).parents[1].joinpath(".env.example").read_text()
    listed = set(re.findall(r"^#? ?FLASK_(\w+)=", example, re.MULTILINE))
    assert set(Settings.model_fields) <= listed
