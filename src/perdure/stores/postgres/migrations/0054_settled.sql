-- Which attempts have just ended, for counts of the last seconds and minutes. Block ranges are summarized when autovacuum comes by, once a
-- minute and later where it has much to do; until then each count reads all that has ended since. All attempts of a batch end at one
-- moment, so that this index keeps the moment once for many of them, seven bytes for each, and grows at its end alone.
-- Of attempts alone, those with a token: an index of all rows would also offer itself for "the last that happened to a job", to be walked
-- from its end over whatever others have ended since, where the planner takes the days for small.
CREATE INDEX job_executions_settled ON perdure.job_executions (settled_at) WHERE token IS NOT NULL;
