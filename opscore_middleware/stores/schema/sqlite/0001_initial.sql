-- All times are microseconds since the Unix epoch, UTC. JSON is text.

CREATE TABLE agents (
    agent_key        INTEGER PRIMARY KEY,
    agent_id         TEXT NOT NULL UNIQUE,
    agent_name       TEXT NOT NULL,
    version          TEXT NOT NULL,
    capabilities     TEXT NOT NULL,
    contact_endpoint TEXT,
    metadata         TEXT,
    registered_at    INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    deregistered_at  INTEGER
) STRICT;

CREATE INDEX agents_by_name ON agents (agent_name, agent_id);

-- The current state of each process of an agent. Reports that name no instance share one row, whose
-- instance_id is empty. `sequence` is the highest that became current; `effective_at` orders reports
-- that carry none. A row that a registration made is UNKNOWN until its first report, and any is newer.
CREATE TABLE instances (
    instance_key     INTEGER PRIMARY KEY,
    agent_key        INTEGER NOT NULL REFERENCES agents,
    instance_id      TEXT NOT NULL,
    state            TEXT NOT NULL,
    details          TEXT,
    timestamp        INTEGER NOT NULL,
    effective_at     INTEGER NOT NULL,
    sequence         INTEGER,
    started_at       INTEGER,
    last_seen_at     INTEGER NOT NULL,
    contact_endpoint TEXT,
    UNIQUE (agent_key, instance_id)
) STRICT;

-- Every transition in the order in which it was learned of. Append-only; an id is never used twice.
-- The agent is the instance's; it stands here again for the index that a history is read by.
CREATE TABLE events (
    event_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_key    INTEGER NOT NULL,
    instance_key INTEGER NOT NULL REFERENCES instances,
    sequence     INTEGER,
    state        TEXT NOT NULL,
    details      TEXT,
    timestamp    INTEGER NOT NULL,
    received_at  INTEGER NOT NULL,
    coalesced    INTEGER NOT NULL,
    errors       INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX events_once ON events (instance_key, sequence) WHERE sequence IS NOT NULL;

CREATE INDEX events_by_agent ON events (agent_key, event_id);
