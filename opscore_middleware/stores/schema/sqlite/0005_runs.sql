-- Definitions of workflows, of which each change is a version of its own, and none is ever changed.
CREATE TABLE workflows (
    workflow_key INTEGER PRIMARY KEY,
    workflow_id  TEXT NOT NULL,
    version      INTEGER NOT NULL,
    definition   TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    UNIQUE (workflow_id, version)
) STRICT;

-- Set for a session that runs a workflow.
ALTER TABLE sessions ADD COLUMN workflow_key INTEGER REFERENCES workflows;
ALTER TABLE sessions ADD COLUMN initial_payload TEXT;

CREATE INDEX sessions_by_end ON sessions (ended_at) WHERE ended_at IS NOT NULL;

-- By which route an agent was reached last, or is to be tried first.
ALTER TABLE agents ADD COLUMN route TEXT;

-- What agents can do, one by one.
CREATE TABLE agent_capabilities (
    capability TEXT NOT NULL,
    agent_key  INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    PRIMARY KEY (capability, agent_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX agent_capabilities_by_agent ON agent_capabilities (agent_key);

INSERT INTO agent_capabilities (capability, agent_key)
SELECT DISTINCT value, agent_key FROM agents, json_each(capabilities);

CREATE TRIGGER agent_made AFTER INSERT ON agents BEGIN
    INSERT INTO agent_capabilities (capability, agent_key)
    SELECT DISTINCT value, new.agent_key FROM json_each(new.capabilities);
END;

CREATE TRIGGER agent_changed AFTER UPDATE OF capabilities ON agents
WHEN new.capabilities <> old.capabilities BEGIN
    DELETE FROM agent_capabilities WHERE agent_key = new.agent_key;
    INSERT INTO agent_capabilities (capability, agent_key)
    SELECT DISTINCT value, new.agent_key FROM json_each(new.capabilities);
END;

-- The tasks of all sessions. `queue` is what a task waits in to be claimed: one agent's, or that of
-- all with a capability; it is set as long as the task is ready and its session runs.
CREATE TABLE tasks (
    task_key         INTEGER PRIMARY KEY,
    task_id          TEXT NOT NULL UNIQUE,
    session_key      INTEGER NOT NULL REFERENCES sessions,
    node             TEXT NOT NULL,
    item             INTEGER,
    name             TEXT NOT NULL,
    state            TEXT NOT NULL,
    priority         INTEGER NOT NULL,
    pinned           TEXT,
    capability       TEXT,
    queue            TEXT,
    parameters       TEXT,
    result           TEXT,
    error            TEXT,
    attempt          INTEGER NOT NULL,
    spent            INTEGER NOT NULL,
    ready_at         INTEGER,
    start_within     INTEGER NOT NULL,
    deadline_at      INTEGER,
    close_by         INTEGER,
    agent_id         TEXT,
    instance_id      TEXT,
    route            TEXT,
    rerouted         INTEGER NOT NULL,
    inferred         INTEGER NOT NULL,
    progress         REAL,
    progress_message TEXT,
    created_at       INTEGER NOT NULL,
    dispatched_at    INTEGER,
    started_at       INTEGER,
    ended_at         INTEGER,
    stopped          INTEGER NOT NULL
) STRICT;

CREATE INDEX tasks_by_session ON tasks (session_key);

CREATE INDEX tasks_by_time ON tasks (created_at, task_id);

CREATE INDEX tasks_by_state ON tasks (state, created_at, task_id);

CREATE INDEX tasks_by_agent ON tasks (agent_id, created_at, task_id) WHERE agent_id IS NOT NULL;

CREATE INDEX tasks_by_pin ON tasks (pinned, created_at, task_id) WHERE pinned IS NOT NULL;

-- What is claimed and looked after is found by indexes that hold no finished task.
CREATE INDEX tasks_queued ON tasks (queue, priority, ready_at, created_at) WHERE queue IS NOT NULL;

CREATE INDEX tasks_by_deadline ON tasks (deadline_at)
WHERE deadline_at IS NOT NULL AND state IN ('waiting', 'ready', 'dispatched', 'running');

-- A slot has one open attempt.
CREATE UNIQUE INDEX tasks_open ON tasks (agent_id, instance_id)
WHERE state IN ('dispatched', 'running') AND agent_id IS NOT NULL AND instance_id IS NOT NULL;

-- Whatever stops or continues a session takes its tasks out of their queues, or puts them back.
CREATE TRIGGER session_changed AFTER UPDATE OF state ON sessions
WHEN (new.state IN ('started', 'running')) <> (old.state IN ('started', 'running')) BEGIN
    UPDATE tasks SET queue = CASE WHEN new.state NOT IN ('started', 'running') THEN NULL
                                  WHEN pinned IS NOT NULL THEN 'agent ' || pinned
                                  ELSE 'capability ' || capability END
    WHERE session_key = new.session_key AND state = 'ready';
END;

-- What was given to each instance: when, and the attempt that ended otherwise than by its agent's
-- word, until it is given another.
CREATE TABLE slots (
    agent_id    TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    tasked_at   INTEGER,
    stopped     TEXT,
    stopped_at  INTEGER,
    PRIMARY KEY (agent_id, instance_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX slots_by_stop ON slots (stopped_at) WHERE stopped_at IS NOT NULL;

-- Who hears what agents say for all replicas, until when, and what has been heard: one row.
CREATE TABLE hearing (
    hearing_key INTEGER PRIMARY KEY CHECK (hearing_key = 1),
    holder      TEXT NOT NULL,
    until       INTEGER NOT NULL,
    heard       INTEGER NOT NULL
) STRICT;

-- What was created under an Idempotency-Key, and the answer that was given; rows that are over go
-- with the next that comes.
CREATE TABLE creations (
    key         TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    answer      TEXT NOT NULL,
    until       INTEGER NOT NULL
) STRICT;

CREATE INDEX creations_by_until ON creations (until);
