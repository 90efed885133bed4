-- Who is in a state that few are in.
CREATE INDEX instances_by_state ON instances (lower(state), agent_key);
