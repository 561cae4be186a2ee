"""Every setting, with its type and default.

A setting comes from the environment (FLASK_ and its name), else from `.env`, else from here.
`.env.example` lists them all.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from click import ClickException
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from werkzeug.utils import import_string

from .caching.backend import BackendSettings

PREFIX = "FLASK_"


class SettingsError(ClickException):
    """Settings that cannot be used; the message names each, and a value that works.

    Commands show it as their error, without a traceback.
    """

    exit_code = 2


class Settings(BackendSettings, BaseSettings):
    """The app's settings; those of the cache's backend stand with it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        case_sensitive=True,
        extra="ignore",
        validate_default=True,
    )

    DEBUG: bool = Field(False, description="Development mode: never where strangers can reach it.")
    SECRET_KEY: str = Field(
        "",
        examples=["the output of: python -c 'import secrets; print(secrets.token_hex(32))'"],
        description="Signs sessions and cached values. Required unless DEBUG.",
    )
    SECRET_KEY_FALLBACKS: Annotated[list[str], NoDecode] = Field(
        [], examples=["old-key,older-key"], description="Former secret keys that still verify."
    )
    CACHE_TYPE: str = Field(
        f"{__package__}.caching.backend.Backend",
        pattern=r"^\w+(\.\w+)*$",
        description="The backend's class; Flask-Caching's names work too, NullCache to switch off.",
    )
    CACHE_DEFAULT_TIMEOUT: int = Field(
        {{ cookiecutter.default_timeout }},
        ge=0,
        description="Seconds that an entry lives where none are given; 0 never expires.",
    )
    CACHE_KEY_PREFIX: str = Field(
        __package__ or "",
        pattern=r"^[^:\s]+$",
        description="Begins every key, so that apps can share a cache. No colon, no space.",
    )
    CACHE_VERSION: str = Field(
        "1",
        pattern=r"^[\w.-]+$",
        examples=["2", "2026-11-23"],
        description="Part of every key: a deploy that changes it starts with an empty cache.",
    )
    CACHE_MAX_PAGE_BYTES: int = Field(
        1_000_000, ge=1, description="A larger page is answered, not stored."
    )

    CACHE_ENABLE_SIGNALS: bool = Field(
        False, description="Send Flask-Caching's signals, such as cache_view_hit."
    )
    MONITORING_PASSWORD: str = Field(
        "",
        examples=["a long password"],
        description="Opens /metrics and /cache/, by HTTP Basic; without it only DEBUG does.",
    )

    @field_validator("SECRET_KEY_FALLBACKS", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Read a list written as JSON or with commas."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [part.strip() for part in value.split(",") if part.strip()]

    @field_validator("DEBUG", mode="before")
    @classmethod
    def _as_flask_reads_it(cls, value: Any) -> Any:
        """Refuse what the command `flask` takes for on and everybody else for off."""
        if isinstance(value, str) and value.lower() in ("n", "f", "off"):
            raise ValueError("the command flask would take this for on")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """Refuse bytes that are no UTF-8, which the environment may hold and nobody can send.

        The last of those before a setting is read, which makes it the first to be called.
        """
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise ValueError("it is not UTF-8") from None
        return value

    @field_validator("CACHE_TYPE")
    @classmethod
    def _exists(cls, value: str) -> str:
        """Refuse a backend that Flask-Caching would not find."""
        try:
            import_string(value if "." in value else f"flask_caching.backends.{value}")
        except ImportError:
            raise ValueError("there is no such backend") from None
        return value

    @field_validator("SECRET_KEY")
    @classmethod
    def _required_in_production(cls, value: str, info: ValidationInfo) -> str:
        if value:
            return value
        if info.data.get("DEBUG"):
            return "only for development"
        raise ValueError("outside DEBUG a secret key is required, or anyone could forge a session")


def load(settings: type[Settings], config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the value of every setting; `config` goes first, and may hold more than settings.

    Raises SettingsError that names every setting that cannot be used.
    """
    config = dict(config or {})
    declared = {name: config.pop(name) for name in settings.model_fields if name in config}
    try:
        return settings(**declared).model_dump() | config
    except ValidationError as error:
        problems = [_explain(settings, problem) for problem in error.errors()]
        raise SettingsError("\n".join(["Settings that cannot be used:", *problems])) from None


def _explain(settings: type[Settings], problem: Any) -> str:
    name = str(problem["loc"][0])
    field = settings.model_fields[name]
    works = field.examples[0] if field.examples else field.default
    secret = any(word in name for word in ("SECRET", "PASSWORD", "URL"))
    given = "" if secret else f" (it is {problem['input']!r})"
    return f"- {PREFIX}{name}: {problem['msg']}{given}. What works: {works}"
