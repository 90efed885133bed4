"""What the server can be told: flags first, then the environment, then defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from opscore_middleware.core.durations import Span
from opscore_middleware.core.lifecycle import check_extra_states
from opscore_middleware.errors import ConfigurationError
from opscore_middleware.protocol.address import base_url, is_loopback
from opscore_middleware.protocol.credentials import checked_key
from opscore_middleware.server.allowed import Allowed

__all__ = ["LogFormat", "LogLevel", "Settings"]

MIB: Final = 1024 * 1024
_HIDDEN: Final = frozenset({"OPSCORE_API_KEY", "OPSCORE_WEBHOOK_SECRET"})

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LogFormat = Literal["auto", "json", "console"]


class Settings(BaseSettings):
    """Everything the server is configured with, checked. Keys and secrets show in no repr.

    `max_body_bytes` bounds the body of every request but a batch, `max_batch_bytes` that of a
    batch, `max_pending` how many reports wait to be written, and how many heartbeats, `sending` how
    many attempts are on their way at once. Without a key or a file of keys the server is open to
    whoever reaches it. `webhook_secret` holds one secret, or several separated by commas while they
    are changed.
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
    workers: int = Field(default=1, ge=1, le=256)
    worker_timeout: Span = Field(default=15.0, ge=3)
    database_url: str = Field(default="sqlite:///opscore.db", min_length=1)
    api_key: SecretStr | None = None
    api_keys_file: Path | None = None
    extra_states: Annotated[frozenset[str], NoDecode] = frozenset()
    max_body_bytes: int = Field(default=MIB, ge=1024)
    max_batch_bytes: int = Field(default=8 * MIB, ge=1024)
    max_pending: int = Field(default=4096, ge=1)
    metrics_public: bool = False
    instance_retention: Span = 86400.0
    allowed_endpoints: Annotated[Allowed, NoDecode] = Allowed()
    dispatch: bool = True
    infer: bool = True
    sending: int = Field(default=100, ge=1, le=10_000)
    history_days: float | None = Field(default=None, gt=0, le=36500, allow_inf_nan=False)
    watch_heartbeat: float = Field(default=15, ge=0.1, le=30)
    watch_backlog_bytes: int = Field(default=4 * MIB, ge=64 * 1024)
    webhook_secret: SecretStr | None = None
    webhook_insecure: bool = False
    agentkit_api_url: str | None = Field(default=None, validation_alias="AGENTKIT_API_URL")
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

    @field_validator("allowed_endpoints", mode="before")
    @classmethod
    def _allowed(cls, value: Any) -> Any:
        return Allowed.parse(value) if isinstance(value, str) else value

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

    @field_validator("webhook_secret")
    @classmethod
    def _secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _split_secrets(value):
            raise ConfigurationError(
                "OPSCORE_WEBHOOK_SECRET holds no secret; write the one that AgentKit signs with, "
                "or several separated by commas.",
                setting="OPSCORE_WEBHOOK_SECRET",
            )
        return value

    @field_validator("agentkit_api_url")
    @classmethod
    def _agentkit(cls, value: str | None) -> str | None:
        return None if value is None else base_url(value, setting="AGENTKIT_API_URL")

    @property
    def webhook_secrets(self) -> list[str]:
        """The secrets in force, none where none is set."""
        return [] if self.webhook_secret is None else _split_secrets(self.webhook_secret)

    def require_safe_address(self) -> None:
        """Raise `ConfigurationError` when others could reach this server without a key."""
        locked = self.api_key is not None or self.api_keys_file is not None
        if not locked and not is_loopback(self.host):
            raise ConfigurationError(
                f"OPSCORE_HOST={self.host!r} can be reached from other machines, and no key "
                "protects it: set OPSCORE_API_KEY or OPSCORE_API_KEYS_FILE, or listen on "
                "127.0.0.1.",
                setting="OPSCORE_API_KEY",
            )


def _split_secrets(value: SecretStr) -> list[str]:
    secrets = (secret.strip() for secret in value.get_secret_value().split(","))
    return [secret for secret in secrets if secret]


def _refused(error: ValidationError) -> ConfigurationError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    setting = name if name.isupper() else f"OPSCORE_{name.upper()}"
    shown = "" if setting in _HIDDEN else f"={first['input']!r}"
    return ConfigurationError(f"{setting}{shown} cannot be used: {first['msg']}.", setting=setting)
