-- How far a job was when it was last heard of, so that one that is over need not be asked again.
ALTER TABLE jobs ADD COLUMN step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN total_steps INTEGER;
