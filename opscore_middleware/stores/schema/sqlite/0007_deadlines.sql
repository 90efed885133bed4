-- What has ended has no deadline, so that alone says what the index is for. To ask for its state too
-- had SQLite make a list of the four states, and let go of it, for each task that changed.
UPDATE tasks SET deadline_at = NULL
WHERE deadline_at IS NOT NULL AND state IN ('completed', 'failed', 'skipped', 'cancelled');

DROP INDEX tasks_by_deadline;

CREATE INDEX tasks_by_deadline ON tasks (deadline_at) WHERE deadline_at IS NOT NULL;
