"""What workflows and dispatch ask of a store, beyond `core.store.Store`; each verb is atomic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.runs.records import (
    Advance,
    Claim,
    Creation,
    Endpoint,
    Run,
    Stopped,
    StoredWorkflow,
    Word,
)
from opscore_middleware.core.runs.tasks import Route, Task, TaskState

__all__ = ["RunStore"]


@runtime_checkable
class RunStore(Protocol):
    """The verbs of workflows and dispatch. Everything raises `StoreUnavailable` as `Store` does.

    Where a verb takes a `creation`, its answer is kept in the same transaction until the time that
    it names. Its key again raises `Repeated` with that answer, or `IdempotencyMismatch` where the
    fingerprint is another, and nothing is written; two at once count as one after the other.
    """

    # --- definitions -----------------------------------------------------------------------------

    async def save_workflow(
        self, workflow_id: str, definition: str, *, now: int, creation: Creation | None = None
    ) -> tuple[StoredWorkflow, bool]:
        """Keep a definition as the next version of its id, from 1.

        Returns the version and whether it is new: the same text as the latest version's is not.
        """
        ...

    async def get_workflow(
        self, workflow_id: str, *, version: int | None = None
    ) -> StoredWorkflow | None:
        """Return a version of a definition, the latest unless told; None when there is none."""
        ...

    async def list_workflows(self, *, after: str | None, limit: int) -> Sequence[StoredWorkflow]:
        """List the latest version of each definition by id, `after` that one."""
        ...

    # --- runs ------------------------------------------------------------------------------------

    async def start_run(
        self,
        run: Run,
        *,
        creation: Creation | None = None,
        placed: Callable[[], None] | None = None,
    ) -> tuple[Run, bool]:
        """Keep a new run: its session and its tasks, under a version that is kept already.

        `placed` is called once whatever is asked from then on comes after it, at the latest when it
        is kept: a claim may follow before it is on disk, and share its commit.

        Where the session's id is known, returns the run that is kept instead, and False. Raises
        `AgentNotFound` or `AgentDeregistered` for its agent, `WorkflowNotFound` for a version that
        is not kept, `SessionExists` where the session that is known runs no workflow.
        """
        ...

    async def advance(
        self, steps: Sequence[Advance], *, now: int
    ) -> Sequence[Run | Exception | None]:
        """Change runs, each with nobody else's change in between; returns once it is on disk.

        Answers each step, in order, with the run after it, None where there is no such run, or
        what the step raised. Steps of one run see each other's changes; a run is read once for all
        of its steps, and concurrent callers share a transaction.

        Where a step moves an open attempt to another slot of its agent, and another attempt is in
        that slot, of whatever run, the two swap.
        """
        ...

    async def get_run(self, session_id: str) -> Run | None:
        """Return a run; None for a session that runs no workflow, or is not known."""
        ...

    async def latest_session(self, prefix: str) -> str | None:
        """Return the greatest id of a session, by code points, that begins so; None without any."""
        ...

    async def get_task(self, task_id: str) -> Task | None:
        """Return a task, or None."""
        ...

    async def list_tasks(
        self,
        *,
        session_id: str | None,
        state: TaskState | None,
        agent_id: str | None,
        capability: str | None,
        after: tuple[int, str] | None,
        limit: int,
    ) -> Sequence[Task]:
        """List tasks, newest first, by (created_at, task_id), `after` that pair.

        `agent_id` is the agent that has or last had an attempt, or that a task is pinned to.
        """
        ...

    # --- dispatch --------------------------------------------------------------------------------

    async def claim(self, *, limit: int, mark: Watermark | None, now: int) -> Sequence[Claim]:
        """Give ready tasks to available instances, at most `limit`, one open attempt each.

        Ready means `ready_at` is not after `now` and the session is started or running. Within
        those for one agent, or for one capability, a higher priority goes first, then an earlier
        `ready_at`, then an earlier creation. Available is what `core.runs.availability` says, with
        no open attempt in its slot, of an agent that can be reached: it came through AgentKit, or
        has said where. Of the instances that could have a task, one of the session's
        own agent goes first, then those that were longest without a task.

        A claimed task is `dispatched`: its `attempt` is one more, `agent_id`, `instance_id` and
        `dispatched_at` are set, `route` is the one that its endpoint prefers, `rerouted` and
        `stopped` are cleared, and its deadline is `start_within` from now, or `close_by` if that is
        earlier. Its session is `running` from then on. Tasks and slots that another replica is
        claiming are left alone.
        """
        ...

    async def next_ready_at(self, *, after: int) -> int | None:
        """Return the earliest `ready_at` later than a time, of ready tasks of sessions that run.

        None without any. What is ready by then waits for an agent, no longer for the time.
        """
        ...

    async def due(self, *, now: int, limit: int) -> Sequence[Task]:
        """List tasks whose `deadline_at` is not after `now`, the earliest first."""
        ...

    async def on_lost_instances(self, *, mark: Watermark, limit: int) -> Sequence[Task]:
        """List open tasks whose slot is of an instance that is lost or has finished.

        So is one whose agent was deregistered: nothing that it says is taken any more.
        """
        ...

    async def endpoint(self, agent_id: str, instance_id: str) -> Endpoint | None:
        """Return where an agent's instance is reached; None when it is not known."""
        ...

    async def prefer_route(self, agent_id: str, route: Route) -> None:
        """Remember the route by which an agent was last reached."""
        ...

    async def candidates(self, *, pinned: str | None, capability: str | None) -> Sequence[str]:
        """List the ids of at most 1,000 agents that may have such a task, deregistered ones out."""
        ...

    # --- what agents say -------------------------------------------------------------------------

    async def hearing(self, *, holder: str, lease: int, now: int) -> int | None:
        """Take, or keep, the turn to hear for all replicas until `now + lease`, in microseconds.

        Returns the event id up to which everything has been heard; None while another has the turn,
        unless it has it for more than twice as long from now: then the clock was put back.
        """
        ...

    async def heard(self, *, holder: str, event_id: int) -> None:
        """Note up to which event everything has been heard; nothing if the turn was lost."""
        ...

    async def words(self, *, after: int, limit: int, since: int) -> tuple[Sequence[Word], int]:
        """List events above `after`, by id, of agents that have an open attempt, or one that is
        `stopped` since then.

        Returns them and the id up to which all events have been looked at: the last one's where
        there are `limit`, else the last that there was.
        """
        ...

    async def has_named(self, agent_id: str) -> bool:
        """Tell whether an agent ever had an instance, or named an attempt in what is kept of its
        reports.
        """
        ...

    async def open_tasks(self, agent_ids: Sequence[str]) -> Sequence[Task]:
        """List the open tasks that these agents have."""
        ...

    async def stopped(self, *, since: int) -> Sequence[Stopped]:
        """List attempts that became `stopped` at `since` or later, by the `now` of `advance`.

        Those are what an agent is told to cancel. An attempt is listed until its agent has
        another attempt of any task in that slot.
        """
        ...

    # --- what is let go of -----------------------------------------------------------------------

    async def unfinished(self) -> Mapping[TaskState, int]:
        """Count the tasks that have not ended, by state; what has none may be left out."""
        ...

    async def prune_runs(self, *, before: int, limit: int) -> int:
        """Delete sessions that ended before a time, with all their tasks, the oldest first.

        At most `limit` sessions, those that run no workflow too; returns how many. Definitions
        stay, and so does of each the session with the greatest id that begins with its own and
        `@`: the latest that its schedule has started.
        """
        ...
