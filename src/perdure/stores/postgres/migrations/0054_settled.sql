-- What has just ended, for counts of the last seconds and minutes. Block ranges are summarized when autovacuum comes by, once a minute and later where it
-- has much to do; until then each count reads all that has ended since. All attempts of a batch end at one moment, so that this index
-- keeps the moment once for many of them, seven bytes for each, and grows at its end alone.
-- Only who counts may use it, and says so: an index of the plain column also offers itself for "the last attempt of a job", walked from
-- its end over whatever others have ended since, where the planner takes the day for small.
CREATE FUNCTION perdure.just_ended(settled_at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN greatest(settled_at);

CREATE INDEX job_executions_settled ON perdure.job_executions (perdure.just_ended(settled_at));
