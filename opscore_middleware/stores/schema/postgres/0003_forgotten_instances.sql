-- When an instance that was finished or lost for long was let go of: it shows no more, until it is
-- heard of again. The row stays, since events name it.
ALTER TABLE opscore.instances ADD COLUMN forgotten_at bigint;
