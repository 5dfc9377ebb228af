-- What still cost every single enqueue: a CHECK of a table is read and prepared anew by each statement, 6 to 7 microseconds each
-- (docs/decisions/0031-lean-enqueue.md). That a key stands with its states and a limit with its key is what `enqueue_jobs` writes, and nobody
-- else writes keys: producers have no right to.
ALTER TABLE perdure.jobs DROP CONSTRAINT jobs_keys_check;
