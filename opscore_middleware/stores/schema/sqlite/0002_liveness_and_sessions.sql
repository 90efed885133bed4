-- What an instance's last heartbeat said; NULL until it sends one.
ALTER TABLE instances ADD COLUMN interval INTEGER;
ALTER TABLE instances ADD COLUMN loop_lag REAL;
ALTER TABLE instances ADD COLUMN in_flight INTEGER;

-- Since when Ops-Core has been listening without a gap, and when it last was: one row.
CREATE TABLE watermark (
    watermark_key INTEGER PRIMARY KEY CHECK (watermark_key = 1),
    since         INTEGER NOT NULL,
    seen_at       INTEGER NOT NULL
) STRICT;

-- What is done once until a time; rows that are over go with the next that comes.
CREATE TABLE done_once (
    key   TEXT PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT;

CREATE INDEX done_once_by_until ON done_once (until);

CREATE TABLE sessions (
    session_key INTEGER PRIMARY KEY,
    session_id  TEXT NOT NULL UNIQUE,
    agent_key   INTEGER NOT NULL REFERENCES agents,
    workflow_id TEXT,
    state       TEXT NOT NULL,
    result      TEXT,
    error       TEXT,
    metadata    TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    ended_at    INTEGER
) STRICT;

CREATE INDEX sessions_by_time ON sessions (created_at, session_id);

CREATE INDEX sessions_by_agent ON sessions (agent_key, created_at, session_id);

CREATE INDEX sessions_by_state ON sessions (state, created_at, session_id);
