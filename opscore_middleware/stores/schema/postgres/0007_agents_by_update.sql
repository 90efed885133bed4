-- When an agent was last registered, by which replicas notice that what agents can do has changed.
CREATE INDEX agents_by_update ON opscore.agents (updated_at);
