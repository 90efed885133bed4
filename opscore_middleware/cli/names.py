"""Agents as people name them: by their id, or by their name."""

from __future__ import annotations

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import AgentQuery
from opscore_middleware.errors import ConfigurationError, RemoteError

__all__ = ["agent_id_of", "id_by_name"]


def agent_id_of(client: OpsCoreClient, named: str) -> str:
    """Return the id of the agent with this id, else of the one with this name.

    Raises `RemoteError` where there is none, `ConfigurationError` where several have the name.
    """
    try:
        return client.get_agent(named).agent_id
    except RemoteError as error:
        if error.remote_status == 410:
            return named  # taken out, and what there is of it can be asked for
        return id_by_name(client, named, error)


def id_by_name(client: OpsCoreClient, name: str, unknown: RemoteError) -> str:
    """Return the id of the only agent with this name, after `unknown` was answered to it as an id.

    Raises `unknown` where there is none, or where it says something else than that there is no
    such id, and `ConfigurationError` where there are several.
    """
    if unknown.remote_status != 404:
        raise unknown
    found = list(client.iter_agents(AgentQuery(name=name)))
    if not found:
        raise unknown
    if len(found) > 1:
        listed = ", ".join(f"{agent.agent_id} ({agent.state})" for agent in found)
        raise ConfigurationError(
            f"{len(found)} agents are named {name!r}; name the one that you mean by its id: "
            f"{listed}."
        )
    return found[0].agent_id
