-- What a server of schema version 1 left behind; written by it, dumped by sqlite3.
PRAGMA application_id = 1332769603;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
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
INSERT INTO "agents" VALUES(1,'a','summariser','1.2','["summarise","échoué"]','http://10.0.0.7/task','{"team":"news","n":[1,2.5,null]}',1800000000000000,1800000000000000,NULL);
INSERT INTO "agents" VALUES(2,'b','translator','','[]',NULL,NULL,1800000001000000,1800000001000000,NULL);
INSERT INTO "agents" VALUES(3,'c','quiet','','[]','http://10.0.0.9/',NULL,1800000002000000,1800000002000000,NULL);
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
INSERT INTO "events" VALUES(1,1,2,1,'initializing',NULL,1800000001000000,1800000001000000,0,0);
INSERT INTO "events" VALUES(2,1,2,2,'idle',NULL,1800000002000000,1800000002000000,0,0);
INSERT INTO "events" VALUES(3,1,2,3,'active','{"opscore_task_id":"t.1"}',1800000003000000,1800000003000000,0,0);
INSERT INTO "events" VALUES(4,1,2,4,'error','{"error":{"type":"ValueError","message":"ü"}}',1800000004000000,1800000004000000,0,1);
INSERT INTO "events" VALUES(5,1,2,5,'idle',NULL,1800000005000000,1800000005000000,2,0);
INSERT INTO "events" VALUES(6,1,3,1,'draining',NULL,1800000009000000,1800000009000000,0,0);
INSERT INTO "events" VALUES(7,1,3,2,'finished',NULL,1800000010000000,1800000010000000,0,0);
INSERT INTO "events" VALUES(8,1,3,3,'idle',NULL,1800000011000000,1800000011000000,0,0);
INSERT INTO "events" VALUES(9,2,4,NULL,'active',NULL,1800000012000000,1800000012000000,0,0);
INSERT INTO "events" VALUES(10,2,4,NULL,'idle','{}',1800000013000000,1800000013000000,0,0);
INSERT INTO "events" VALUES(11,2,4,NULL,'active',NULL,1800000011999999,1800000011999999,0,0);
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
INSERT INTO "instances" VALUES(1,3,'only-registered','UNKNOWN',NULL,1800000002000000,0,NULL,NULL,1800000002000000,'http://10.0.0.9/');
INSERT INTO "instances" VALUES(2,1,'i','idle',NULL,1800000005000000,1800000005000000,5,1800000000000000,1800000005000000,NULL);
INSERT INTO "instances" VALUES(3,1,'old','finished',NULL,1800000010000000,1800000010000000,2,NULL,1800000011000000,NULL);
INSERT INTO "instances" VALUES(4,2,'','idle','{}',1800000013000000,1800000013000000,NULL,NULL,1800000013000000,NULL);
CREATE INDEX agents_by_name ON agents (agent_name, agent_id);
CREATE UNIQUE INDEX events_once ON events (instance_key, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX events_by_agent ON events (agent_key, event_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',11);
COMMIT;
