-- All times are microseconds since the Unix epoch, UTC. JSON is text. Names and ids compare by
-- their bytes, so that lists come in the same order whatever the database's locale.

CREATE TABLE opscore.agents (
    agent_key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id         text COLLATE "C" NOT NULL UNIQUE,
    agent_name       text COLLATE "C" NOT NULL,
    version          text NOT NULL,
    capabilities     text NOT NULL,
    contact_endpoint text,
    metadata         text,
    registered_at    bigint NOT NULL,
    updated_at       bigint NOT NULL,
    deregistered_at  bigint
);

CREATE INDEX agents_by_name ON opscore.agents (agent_name, agent_id);

-- The current state of each process of an agent. Reports that name no instance share one row, whose
-- instance_id is empty. `sequence` is the highest that became current; `effective_at` orders reports
-- that carry none. A row that a registration or a heartbeat made is UNKNOWN until its first report,
-- and any is newer. `interval` and what follows it is what the last heartbeat said.
-- Pages keep room, since rows change often and no index needs to know.
CREATE TABLE opscore.instances (
    instance_key     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_key        bigint NOT NULL REFERENCES opscore.agents,
    instance_id      text COLLATE "C" NOT NULL,
    state            text NOT NULL,
    details          text,
    timestamp        bigint NOT NULL,
    effective_at     bigint NOT NULL,
    sequence         bigint,
    started_at       bigint,
    last_seen_at     bigint NOT NULL,
    contact_endpoint text,
    interval         bigint,
    loop_lag         double precision,
    in_flight        bigint,
    UNIQUE (agent_key, instance_id)
) WITH (fillfactor = 70);

-- Numbers the events. Only drawn from under the lock that is held to the commit, one at a time, so
-- that events appear in the order of their numbers.
CREATE SEQUENCE opscore.event_ids;

-- Every transition in the order in which it was learned of. Append-only.
-- The agent is the instance's; it stands here again for the index that a history is read by.
-- The one statement that writes here takes `instance_key` from the row that it has just changed; to
-- have the server look for that row again, for each event, would cost a third of the writing.
CREATE TABLE opscore.events (
    event_id     bigint PRIMARY KEY,
    agent_key    bigint NOT NULL,
    instance_key bigint NOT NULL,
    sequence     bigint,
    state        text NOT NULL,
    details      text,
    timestamp    bigint NOT NULL,
    received_at  bigint NOT NULL,
    coalesced    bigint NOT NULL,
    errors       bigint NOT NULL
);

CREATE UNIQUE INDEX events_once ON opscore.events (instance_key, sequence)
    WHERE sequence IS NOT NULL;

CREATE INDEX events_by_agent ON opscore.events (agent_key, event_id);

-- Since when Ops-Core has been listening without a gap, and when it last was: one row, empty until
-- somebody listens.
CREATE TABLE opscore.watermark (
    watermark_key integer PRIMARY KEY CHECK (watermark_key = 1),
    since         bigint,
    seen_at       bigint
);

INSERT INTO opscore.watermark (watermark_key) VALUES (1);

-- What is done once until a time.
CREATE TABLE opscore.done_once (
    key   text COLLATE "C" PRIMARY KEY,
    until bigint NOT NULL
);

CREATE INDEX done_once_by_until ON opscore.done_once (until);

CREATE TABLE opscore.sessions (
    session_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id  text COLLATE "C" NOT NULL UNIQUE,
    agent_key   bigint NOT NULL REFERENCES opscore.agents,
    workflow_id text,
    state       text NOT NULL,
    result      text,
    error       text,
    metadata    text,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    ended_at    bigint
);

CREATE INDEX sessions_by_time ON opscore.sessions (created_at, session_id);

CREATE INDEX sessions_by_agent ON opscore.sessions (agent_key, created_at, session_id);

CREATE INDEX sessions_by_state ON opscore.sessions (state, created_at, session_id);
