"""What goes wrong with a PostgreSQL server, in plain words and with what mends it."""

from __future__ import annotations

import ssl
from typing import Final

import asyncpg

from opscore_middleware.errors import ConfigurationError, OpsCoreError, StoreUnavailable

__all__ = ["DRIVER_ERRORS", "OPENING_ERRORS", "refusal", "unavailable"]

DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What the driver raises."""

OPENING_ERRORS: Final = (*DRIVER_ERRORS, ValueError)
"""What the driver raises while nothing is open yet, of addresses that it cannot use too."""

_Remedies = tuple[tuple[type[Exception], str], ...]

_POOLED: Final = "name the server itself, or a pooler that keeps a connection for each client"

_GONE: Final = (
    "restore its schema opscore, or start this server anew, which makes what it needs in an empty "
    "database"
)

# What no waiting mends, since the address is wrong, or what may be done there.
_SETTINGS: Final[_Remedies] = (
    (asyncpg.InvalidPasswordError, "check user and password"),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "check the user, and the server's pg_hba.conf",
    ),
    (asyncpg.InvalidCatalogNameError, "create the database, or name another"),
    (
        asyncpg.InsufficientPrivilegeError,
        "GRANT CREATE ON DATABASE to its user, or CREATE SCHEMA opscore AUTHORIZATION for it",
    ),
    (asyncpg.UndefinedObjectError, "check the address's options"),
    (asyncpg.CantChangeRuntimeParamError, "check the address's options"),
    (asyncpg.ClientConfigurationError, "check the address and its options"),
    (asyncpg.InvalidSQLStatementNameError, _POOLED),
    (asyncpg.DuplicatePreparedStatementError, _POOLED),
    (
        ssl.SSLCertVerificationError,
        "check its sslrootcert, and that its certificate names the host",
    ),
)
_ADDRESS: Final[_Remedies] = (
    (ValueError, "check the address, and what PGHOST, PGPORT and their like say"),
)
_NO_TLS: Final = "rejected SSL upgrade"  # as the driver says it, with the error of any connection

# What may be over by itself, or once somebody has seen to it.
_OUTAGES: Final[_Remedies] = (
    (asyncpg.TooManyConnectionsError, "raise its max_connections, or run fewer replicas"),
    (asyncpg.DiskFullError, "free space on its disk"),
    (asyncpg.InsufficientResourcesError, "free memory and disk on its machine"),
    (asyncpg.ReadOnlySQLTransactionError, "name the primary server, this one only reads"),
    (asyncpg.CannotConnectNowError, "it starts or stops, so wait"),
    (asyncpg.OperatorInterventionError, "it was stopped or the call was ended, so wait"),
    (asyncpg.TransactionRollbackError, "try again"),
    (asyncpg.IdleInTransactionSessionTimeoutError, "try again"),
    (asyncpg.LockNotAvailableError, "try again"),
    (asyncpg.UndefinedTableError, _GONE),
    (asyncpg.InvalidSchemaNameError, _GONE),
    (asyncpg.PostgresSystemError, "check its disk"),
    (asyncpg.PostgresConnectionError, "check that it runs and can be reached"),
    (asyncpg.InternalClientError, "try again"),
    (TimeoutError, "check its load and the network"),
    (ssl.SSLError, "check sslmode, and the files of certificates and keys that its address names"),
    (OSError, "check that it runs and can be reached"),
)


def unavailable(error: Exception, database: str) -> StoreUnavailable | None:
    """Say what keeps a database from working; None when `error` is about something else."""
    remedy = _remedy(_OUTAGES, error) or _remedy(_SETTINGS, error)
    # The driver says that a connection is gone with the same class as that a value cannot be sent.
    if remedy is None and isinstance(error, asyncpg.InterfaceError):
        remedy = None if isinstance(error, ValueError) else "try again"
    if remedy is None:
        return None
    return StoreUnavailable(
        f"The database {database} cannot be used right now ({_said(error)}); {remedy}.",
        database=database,
    )


def refusal(error: Exception, database: str) -> OpsCoreError:
    """Say why a database cannot be opened, for one of `OPENING_ERRORS`."""
    if _NO_TLS in str(error):
        remedy: str | None = "turn TLS on there, or choose another sslmode"
    else:
        remedy = _remedy(_SETTINGS, error) or _remedy(_ADDRESS, error)
    if remedy is None:
        return unavailable(error, database) or StoreUnavailable(
            f"The database {database} cannot be opened ({_said(error)}); look into its log.",
            database=database,
        )
    return ConfigurationError(
        f"The database {database} cannot be opened ({_said(error)}); {remedy}.", database=database
    )


def _remedy(remedies: _Remedies, error: Exception) -> str | None:
    return next((remedy for kind, remedy in remedies if isinstance(error, kind)), None)


def _said(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or "it does not answer in time"
