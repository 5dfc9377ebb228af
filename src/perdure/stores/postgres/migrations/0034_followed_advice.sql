-- Time-outs and retry delays that follow the advice on their kind.

-- What each kind wishes, and what it goes by. Processes of workers write the wishes when they start and read what is in force; the leader
-- changes it. Times in milliseconds; NULL for what does not follow, or is the kind's own.
CREATE TABLE perdure.followed_advice (
    kind text PRIMARY KEY,
    timeout_least_ms bigint,
    timeout_most_ms bigint,
    retry_most_ms bigint,
    wished_at timestamptz NOT NULL DEFAULT now(),
    timeout_ms bigint CHECK (timeout_ms > 0),
    retry_ms bigint CHECK (retry_ms > 0),
    ran_out integer NOT NULL DEFAULT 0,
    ran_out_of integer NOT NULL DEFAULT 0,
    why text NOT NULL DEFAULT '',
    changed_at timestamptz,
    looked_at timestamptz
);
