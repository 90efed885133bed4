-- The state of an instance where it is neither of the two between which an agent goes back and forth
-- with each piece of work: as long as it is one of these, nothing changes that an index knows, and
-- PostgreSQL need not touch any index for a report.
ALTER TABLE opscore.instances ADD COLUMN rare_state text GENERATED ALWAYS AS
    (CASE WHEN lower(state) NOT IN ('idle', 'active') THEN lower(state) END) STORED;

CREATE INDEX instances_by_rare_state ON opscore.instances (rare_state)
    WHERE rare_state IS NOT NULL;

DROP INDEX opscore.instances_by_state;

-- How many are in each state, which is what the server then chooses by.
CREATE STATISTICS opscore.instances_states ON (lower(state)) FROM opscore.instances;
