-- Who is in a state that few are in.
CREATE INDEX instances_by_state ON opscore.instances (lower(state));
