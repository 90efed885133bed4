"""Talk to Ops-Core from Python, with or without async."""

from opscore_middleware.client.asynchronous import AsyncOpsCoreClient
from opscore_middleware.client.synchronous import OpsCoreClient

__all__ = ["AsyncOpsCoreClient", "OpsCoreClient"]
