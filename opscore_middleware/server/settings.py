"""What the server can be told: flags first, then the environment, then defaults."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from opscore_middleware.core.lifecycle import check_extra_states
from opscore_middleware.errors import ConfigurationError
from opscore_middleware.protocol.credentials import checked_key

__all__ = ["LogFormat", "LogLevel", "Settings", "is_loopback"]

MIB: Final = 1024 * 1024

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LogFormat = Literal["auto", "json", "console"]


class Settings(BaseSettings):
    """Everything the server is configured with, checked. The key shows in no repr.

    `max_body_bytes` bounds the body of every request but a batch, `max_batch_bytes` that of a
    batch. Without a key the server is open to whoever reaches it.
    """

    model_config = SettingsConfigDict(
        env_prefix="OPSCORE_",
        env_ignore_empty=True,
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=0, le=65535)
    database_url: str = Field(default="sqlite:///opscore.db", min_length=1)
    api_key: SecretStr | None = None
    extra_states: Annotated[frozenset[str], NoDecode] = frozenset()
    max_body_bytes: int = Field(default=MIB, ge=1024)
    max_batch_bytes: int = Field(default=8 * MIB, ge=1024)
    log_level: LogLevel = Field(default="INFO", validation_alias="LOG_LEVEL")
    log_format: LogFormat = Field(default="auto", validation_alias="LOG_FORMAT")

    @classmethod
    def resolve(cls, **given: Any) -> Settings:
        """Take each setting from `given`, else from the environment, else its default.

        None counts as not given. Raises `ConfigurationError` for the first value that cannot be,
        naming the setting, the value and the rule; the key's value is named nowhere.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise _refused(error) from None

    @field_validator("extra_states", mode="before")
    @classmethod
    def _split(cls, value: Any) -> frozenset[str]:
        names = value.split(",") if isinstance(value, str) else value
        try:
            return check_extra_states([name.strip() for name in names if name.strip()])
        except ConfigurationError as error:
            raise ConfigurationError(f"OPSCORE_EXTRA_STATES: {error.message}") from error

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_format", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("api_key")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        return SecretStr(checked_key(value.get_secret_value(), setting="OPSCORE_API_KEY"))

    def require_safe_address(self) -> None:
        """Raise `ConfigurationError` when others could reach this server without a key."""
        if self.api_key is None and not is_loopback(self.host):
            raise ConfigurationError(
                f"OPSCORE_HOST={self.host!r} can be reached from other machines, and no key "
                "protects it: set OPSCORE_API_KEY, or listen on 127.0.0.1.",
                setting="OPSCORE_API_KEY",
            )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`: 127.0.0.0/8, ::1 or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _refused(error: ValidationError) -> ConfigurationError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    setting = name if name.isupper() else f"OPSCORE_{name.upper()}"
    shown = "" if setting == "OPSCORE_API_KEY" else f"={first['input']!r}"
    return ConfigurationError(f"{setting}{shown} cannot be used: {first['msg']}.", setting=setting)
