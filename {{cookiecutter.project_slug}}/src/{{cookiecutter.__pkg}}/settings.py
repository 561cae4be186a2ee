"""Every setting, with its type and default.

A setting comes from the environment (FLASK_ and its name), else from `.env`, else from here.
`.env.example` lists them all.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from click import ClickException
from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from werkzeug.utils import import_string

from .caching import backend


class SettingsError(ClickException):
    """Settings that cannot be used. Commands show each, with a value that works."""

    exit_code = 2


def _split(value: Any) -> Any:
    """Read a list written as JSON or with commas."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [part.strip() for part in value.split(",") if part.strip()]
    return json.loads(value) if isinstance(value, str) else value


Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """The app's settings."""

    model_config = SettingsConfigDict(
        env_prefix="FLASK_",
        env_file=".env",
        env_file_encoding="utf-8",
        case_sensitive=True,
        extra="ignore",
        validate_default=True,
    )

    #: Development mode. Never use it where strangers can reach the app.
    DEBUG: bool = False
    #: Signs sessions and cached values; required in production.
    SECRET_KEY: str = Field(
        "", examples=["the output of: python -c 'import secrets; print(secrets.token_hex(32))'"]
    )
    #: Former secret keys that still verify, separated by commas.
    SECRET_KEY_FALLBACKS: Names = Field([], examples=["old-key,older-key"])
    #: Opens /metrics and /cache/ by HTTP Basic; without it they exist in debug mode only.
    MONITORING_PASSWORD: str = Field("", examples=["a long password"])
{% include "settings/database.py" if cookiecutter.__database else [] ignore missing %}

    #: The backend's class, or a name of Flask-Caching's; NullCache switches the cache off.
    CACHE_TYPE: str = Field(f"{backend.__name__}.Backend", pattern=r"^\w+(\.\w+)*$")
    #: Default timeout in seconds; 0 never expires.
    CACHE_DEFAULT_TIMEOUT: int = Field({{ cookiecutter.default_timeout }}, ge=0)
    #: Begins every key, so that apps can share a cache. No colon or space.
    CACHE_KEY_PREFIX: str = Field(__package__ or "", pattern=r"^[^:\s]+$")
    #: Part of every key: a deploy that changes it starts with an empty cache.
    CACHE_VERSION: str = Field("1", pattern=r"^[\w.-]+$", examples=["2", "2026-11-23"])
    #: Maximum size of a page in bytes; larger ones are sent, not kept.
    CACHE_MAX_PAGE_BYTES: int = Field(1_000_000, ge=1)
    #: Headers that say who the visitor is, separated by commas; empty means the usual names.
    CACHE_PRIVATE_HEADERS: Names = Field([], examples=["X-API-Key,X-User"])
    #: Names in `g` that say who the visitor is, separated by commas; empty means the usual names.
    CACHE_USER_NAMES: Names = Field([], examples=["user,current_user"])
    #: Send Flask-Caching's signals, such as cache_view_hit.
    CACHE_ENABLE_SIGNALS: bool = False
{% include "settings/" ~ cookiecutter.cache_backend ~ ".py" %}

    @field_validator("DEBUG", mode="before")
    @classmethod
    def _as_flask_reads_it(cls, value: Any) -> Any:
        """Refuse values that mean off, but that the command `flask` takes for on."""
        if isinstance(value, str) and value.lower() in ("n", "f", "off"):
            raise ValueError("the command flask would take this for on")
        return value

    @field_validator("*", mode="before")  # the last one here is the first that pydantic calls
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """Refuse bytes that are not UTF-8."""
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise ValueError("it is not UTF-8") from None
        return value

    @field_validator("CACHE_TYPE")
    @classmethod
    def _exists(cls, value: str) -> str:
        """Refuse a backend that Flask-Caching does not find."""
        try:
            import_string(value if "." in value else f"flask_caching.backends.{value}")
        except ImportError:
            raise ValueError("there is no such backend") from None
        return value

    @field_validator("SECRET_KEY")
    @classmethod
    def _required_in_production(cls, value: str, info: ValidationInfo) -> str:
        """Refuse an empty key, with which anyone could forge a session, outside of DEBUG."""
        if not value and not info.data.get("DEBUG"):
            raise ValueError("a secret key is required, or anyone could forge a session")
        return value or "only for development"


def load(config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the value of every setting; `config` goes first, and may hold more than settings.

    Raises SettingsError that names every setting that cannot be used.
    """
    config = dict(config or {})
    try:
        return config | Settings(**config).model_dump()
    except ValidationError as error:
        problems = "\n".join(map(_explain, error.errors()))
        raise SettingsError(f"Settings that cannot be used:\n{problems}") from None


def _explain(problem: Any) -> str:
    field = Settings.model_fields[name := str(problem["loc"][0])]
    works = field.examples[0] if field.examples else field.default
    secret = any(word in name for word in ("SECRET", "PASSWORD", "URL"))
    given = "" if secret else f" (it is {problem['input']!r})"
    return f"- FLASK_{name}: {problem['msg']}{given}. What works: {works}"
