-- How long all of an agent's instances may be lost before it is taken out; NULL for ever.
ALTER TABLE opscore.agents ADD COLUMN deregister_after bigint;
