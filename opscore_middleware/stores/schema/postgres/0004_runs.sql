-- Definitions of workflows, of which each change is a version of its own, and none is ever changed.
CREATE TABLE opscore.workflows (
    workflow_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow_id  text COLLATE "C" NOT NULL,
    version      integer NOT NULL,
    definition   text NOT NULL,
    created_at   bigint NOT NULL,
    UNIQUE (workflow_id, version)
);

-- Set for a session that runs a workflow.
ALTER TABLE opscore.sessions ADD COLUMN workflow_key bigint;
ALTER TABLE opscore.sessions ADD COLUMN initial_payload text;

CREATE INDEX sessions_by_end ON opscore.sessions (ended_at) WHERE ended_at IS NOT NULL;

-- By which route an agent was reached last, or is to be tried first.
ALTER TABLE opscore.agents ADD COLUMN route text;

CREATE INDEX agents_by_capability ON opscore.agents USING gin ((capabilities::jsonb));

-- The tasks of all sessions. Only who holds the lock on a session's row writes its tasks, so none of
-- their rows is ever waited for, and the session need not be looked for again with each of them.
-- `task_key` says in which order they were made. `queue` is what a ready task waits for: one agent,
-- or any with a capability.
-- Nearly every change moves a row from one partial index to another, and so leaves an old version
-- behind in all of them: those are cleared away early.
CREATE TABLE opscore.tasks (
    task_id          text COLLATE "C" PRIMARY KEY,
    task_key         bigint GENERATED ALWAYS AS IDENTITY,
    session_key      bigint NOT NULL,
    node             text NOT NULL,
    item             bigint,
    name             text NOT NULL,
    state            text COLLATE "C" NOT NULL,
    priority         bigint NOT NULL,
    pinned           text COLLATE "C",
    capability       text COLLATE "C",
    queue            text COLLATE "C" GENERATED ALWAYS AS
                         (CASE WHEN pinned IS NOT NULL THEN 'agent ' || pinned
                               ELSE 'capability ' || capability END) STORED,
    parameters       text,
    result           text,
    error            text,
    attempt          bigint NOT NULL,
    spent            bigint NOT NULL,
    ready_at         bigint,
    start_within     bigint NOT NULL,
    deadline_at      bigint,
    close_by         bigint,
    agent_id         text COLLATE "C",
    instance_id      text COLLATE "C",
    route            text,
    rerouted         boolean NOT NULL,
    inferred         boolean NOT NULL,
    progress         double precision,
    progress_message text,
    created_at       bigint NOT NULL,
    dispatched_at    bigint,
    started_at       bigint,
    ended_at         bigint,
    stopped          boolean NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

CREATE INDEX tasks_by_session ON opscore.tasks (session_key, task_key);

CREATE INDEX tasks_by_time ON opscore.tasks (created_at, task_id);

CREATE INDEX tasks_failed ON opscore.tasks (created_at, task_id) WHERE state = 'failed';

CREATE INDEX tasks_by_agent ON opscore.tasks (agent_id, created_at, task_id)
    WHERE agent_id IS NOT NULL;

CREATE INDEX tasks_by_pin ON opscore.tasks (pinned, created_at, task_id) WHERE pinned IS NOT NULL;

CREATE INDEX tasks_ready ON opscore.tasks (queue, priority DESC, ready_at, created_at, task_key)
    WHERE state = 'ready';

CREATE INDEX tasks_by_ready_at ON opscore.tasks (ready_at) WHERE state = 'ready';

CREATE INDEX tasks_unfinished ON opscore.tasks (deadline_at, state)
    WHERE state IN ('waiting', 'ready', 'dispatched', 'running');

-- One open attempt for each slot. A task whose items are under way has no slot.
CREATE UNIQUE INDEX tasks_open ON opscore.tasks (agent_id, instance_id)
    WHERE state IN ('dispatched', 'running') AND agent_id IS NOT NULL;

-- Of each slot: when it was last given an attempt, and the attempt that was stopped since.
CREATE TABLE opscore.slots (
    agent_id    text COLLATE "C" NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    given_at    bigint NOT NULL,
    stopped     text,
    stopped_at  bigint,
    PRIMARY KEY (agent_id, instance_id)
) WITH (fillfactor = 70);

CREATE INDEX slots_stopped ON opscore.slots (stopped_at) WHERE stopped IS NOT NULL;

-- Who hears for all replicas, until when, and up to which event everything has been heard: one row.
-- What was said before there were tasks is about none.
CREATE TABLE opscore.hearing (
    hearing_key integer PRIMARY KEY CHECK (hearing_key = 1),
    holder      text,
    until       bigint NOT NULL,
    event_id    bigint NOT NULL
);

INSERT INTO opscore.hearing (hearing_key, until, event_id)
SELECT 1, 0, coalesce(max(event_id), 0) FROM opscore.events;

-- What was created under an `Idempotency-Key`, and how that was answered, until a time.
CREATE TABLE opscore.creations (
    key         text COLLATE "C" PRIMARY KEY,
    fingerprint text NOT NULL,
    answer      text NOT NULL,
    until       bigint NOT NULL
);

CREATE INDEX creations_by_until ON opscore.creations (until);
