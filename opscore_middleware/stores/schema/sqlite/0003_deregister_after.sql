-- How long all of an agent's instances may be lost before it is taken out; NULL for ever.
ALTER TABLE agents ADD COLUMN deregister_after INTEGER;
