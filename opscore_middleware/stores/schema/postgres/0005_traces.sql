-- The trace that a session with a workflow was started in, as W3C spells it; its tasks carry it on.
ALTER TABLE opscore.sessions ADD COLUMN traceparent text;
