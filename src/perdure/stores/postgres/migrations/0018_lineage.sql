-- Lineage: by what a client tells that the database still is the one that it saw, and has all that it had. The time of a database is
-- cut into epochs; a new one opens when it has gone back in time or was moved. In an epoch marks are counted, in stretches with random names.

-- No row: the first epoch. An epoch that nobody has adopted halts the system: no worker registers, no leader is elected.
CREATE TABLE perdure.epochs (
    number integer PRIMARY KEY CHECK (number > 1),
    opened_at timestamptz NOT NULL DEFAULT now(),
    opened_by text NOT NULL,
    cause text NOT NULL,
    released integer NOT NULL DEFAULT 0,
    adopted_at timestamptz,
    adopted_by text,
    reason text,
    CHECK ((adopted_at IS NULL) = (adopted_by IS NULL))
);

-- A stretch is a time in which one mark followed the other. Two histories that parted cannot both have the same mark of the same stretch, for a
-- worker that remembers nothing begins a stretch of its own, and so does whoever comes after a gap.
CREATE TABLE perdure.stretches (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    epoch integer NOT NULL,
    mark bigint NOT NULL DEFAULT 0,
    begun_at timestamptz NOT NULL DEFAULT now(),
    marked_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- What clients remember and the database forgot when an epoch opened: jobs whose enqueue was answered, and jobs whose success was accepted.
CREATE TABLE perdure.forgotten_jobs (
    epoch integer NOT NULL,
    job_id uuid NOT NULL,
    lost text NOT NULL CHECK (lost IN ('enqueue', 'success')),
    remembered_by text NOT NULL,
    told_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (epoch, job_id, lost)
);

CREATE FUNCTION perdure.epoch_now() RETURNS integer LANGUAGE sql STABLE RETURN
    coalesce((SELECT max(e.number) FROM perdure.epochs e), 1);

-- Why nothing may run: the cause of the newest epoch while nobody has adopted it.
CREATE FUNCTION perdure.halted_by() RETURNS text LANGUAGE sql STABLE RETURN (
    SELECT n.cause FROM (SELECT e.cause, e.adopted_at FROM perdure.epochs e ORDER BY e.number DESC LIMIT 1) n WHERE n.adopted_at IS NULL
);

CREATE FUNCTION perdure.require_adopted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    why text := perdure.halted_by();
BEGIN
    IF why IS NOT NULL THEN
        RAISE EXCEPTION '%', why USING ERRCODE = 'PD007';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER workers_halted BEFORE INSERT ON perdure.workers
    FOR EACH ROW WHEN (NEW.state IN ('active', 'draining')) EXECUTE FUNCTION perdure.require_adopted();
CREATE TRIGGER leaders_halted BEFORE INSERT OR UPDATE ON perdure.leaders
    FOR EACH ROW WHEN (NEW.expires_at > now()) EXECUTE FUNCTION perdure.require_adopted();

-- One look: what the database is, and how far it has come; `marking` makes a mark, at most one a second. A mark's commit waits for the disk whatever the session's settings, and nobody sees it before: a mark that was
-- seen cannot be lost by a crash. `reached` is how far the stretch came that the client remembers, null when there is no such stretch.
CREATE FUNCTION perdure.look_at_lineage(marking boolean, begin_anew boolean, remembered uuid, promised uuid[]) RETURNS TABLE (
    installation uuid, epoch integer, halted text, system bigint, timeline integer, flushed bigint, stretch uuid, mark bigint, reached bigint,
    durable boolean, missing uuid[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest perdure.stretches;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the server is a replica, or has not ended its recovery' USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    epoch := perdure.epoch_now();
    halted := perdure.halted_by();
    durable := current_setting('synchronous_commit') <> 'off';
    SELECT * INTO newest FROM perdure.stretches s ORDER BY s.number DESC LIMIT 1;
    IF marking AND halted IS NULL THEN
        IF newest.id IS NULL OR begin_anew OR newest.epoch <> epoch OR newest.marked_at < clock_timestamp() - interval '10 seconds' THEN
            PERFORM set_config('synchronous_commit', 'on', true);
            DELETE FROM perdure.stretches s WHERE s.marked_at < now() - interval '35 days';
            INSERT INTO perdure.stretches (epoch) VALUES (epoch) RETURNING * INTO newest;
        ELSIF abs(extract(epoch FROM clock_timestamp() - newest.marked_at)) > 1 THEN
            PERFORM set_config('synchronous_commit', 'on', true);
            UPDATE perdure.stretches s SET mark = s.mark + 1, marked_at = clock_timestamp()
            WHERE s.number = newest.number AND s.marked_at = newest.marked_at;
            SELECT * INTO newest FROM perdure.stretches s WHERE s.number = newest.number;
        END IF;
    END IF;
    stretch := newest.id;
    mark := newest.mark;
    SELECT s.mark INTO reached FROM perdure.stretches s WHERE s.id = remembered;
    SELECT i.id INTO installation FROM perdure.installation i;
    SELECT c.system_identifier INTO system FROM pg_control_system() c;
    flushed := (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint;
    timeline := ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer;
    missing := ARRAY(SELECT p.id FROM unnest(promised) AS p (id) WHERE NOT EXISTS (SELECT FROM perdure.jobs j WHERE j.id = p.id));
    RETURN NEXT;
END $$;

-- Raise PD007 unless the database still has what a client remembers: before it claims on a new connection, behind which may be another server.
CREATE FUNCTION perdure.require_lineage(remembered_epoch integer, remembered uuid, remembered_mark bigint) RETURNS void LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF perdure.halted_by() IS NOT NULL THEN
        RAISE EXCEPTION '%', perdure.halted_by() USING ERRCODE = 'PD007';
    ELSIF perdure.epoch_now() <= remembered_epoch AND NOT EXISTS (
        SELECT FROM perdure.stretches s WHERE s.id = remembered AND s.mark >= remembered_mark
    ) THEN
        RAISE EXCEPTION 'the database has gone back in time' USING ERRCODE = 'PD007';
    END IF;
END $$;

-- Open the epoch after `seen`, unless somebody else has, and give the number of the newest. All workers of before are dead by their rows, so that none of
-- them claims; all leases are given back, which counts as nothing, so that every token of before is void. With `adopter` it is adopted at once.
-- from: running   to: available
CREATE FUNCTION perdure.open_epoch(seen integer, cause text, opener text, adopter text, reason text) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    opened integer;
    freed integer;
BEGIN
    LOCK TABLE perdure.epochs IN EXCLUSIVE MODE;
    IF perdure.epoch_now() > seen THEN
        RETURN perdure.epoch_now();
    END IF;
    -- Before the lock on the leases, so that whoever registers or claims at this moment is either seen here or sees the epoch.
    INSERT INTO perdure.epochs (number, cause, opened_by, adopted_at, adopted_by, reason)
        VALUES (perdure.epoch_now() + 1, cause, opener, CASE WHEN adopter IS NOT NULL THEN now() END, adopter, reason)
        RETURNING number INTO opened;
    LOCK TABLE perdure.workers IN SHARE ROW EXCLUSIVE MODE;
    UPDATE perdure.workers w SET state = 'dead', stopped_at = now(), cause = format('epoch %s: %s', opened, open_epoch.cause)
        WHERE w.state IN ('active', 'draining');
    LOCK TABLE perdure.leases IN SHARE ROW EXCLUSIVE MODE;
    WITH gone AS (
        DELETE FROM perdure.leases RETURNING *
    ), history AS (
        INSERT INTO perdure.job_executions (job_id, token, worker_id, process, isolated, lane, run, attempt, crashes, interruptions, slot,
            concurrency_key, outcome, state, available_at, claimed_at, available_xid, claim_xid, cause)
        SELECT g.job_id, g.token, g.worker_id, g.process, g.isolated, g.lane, g.run, g.attempt, g.crashes, g.interruptions, g.slot,
            g.concurrency_key, 'released', 'available', g.available_at, g.claimed_at, g.available_xid, g.claim_xid,
            format('given back when epoch %s opened', opened)
        FROM gone g
    )
    INSERT INTO perdure.available_jobs (job_id, rank, lane, band, run, attempt, crashes, interruptions, suspicion, gated, returned_key)
    SELECT g.job_id, g.rank, g.lane, g.band, g.run, g.attempt - 1, g.crashes, g.interruptions, g.suspicion,
        j.concurrency_key IS NOT NULL OR NOT coalesce(perdure.counts_in(j.unique_states, 'running'), true), coalesce(j.concurrency_key, '')
    FROM gone g JOIN perdure.jobs j ON j.id = g.job_id;
    GET DIAGNOSTICS freed = ROW_COUNT;
    -- A job that is available again counts for a unique key that it had let go when it started, where nobody has taken the key meanwhile.
    INSERT INTO perdure.unique_keys (key, job_id, states, expires_at)
        SELECT DISTINCT ON (j.unique_key) j.unique_key, j.id, j.unique_states, j.unique_until
        FROM perdure.job_executions e JOIN perdure.jobs j ON j.id = e.job_id
        WHERE e.settled_at = now() AND e.settle_xid = pg_current_xact_id() AND j.unique_key IS NOT NULL AND perdure.counts_in(j.unique_states, 'available')
            AND (j.unique_until IS NULL OR j.unique_until > now())
        ORDER BY j.unique_key, j.id
        ON CONFLICT (key) DO NOTHING;
    UPDATE perdure.epochs e SET released = freed WHERE e.number = opened;
    INSERT INTO perdure.job_events (event, actor, reason, detail)
        VALUES ('epoch_opened', opener, cause, jsonb_build_object('epoch', opened, 'released', freed));
    RETURN opened;
END $$;

-- Keep the ids of jobs that a client remembers and this database does not know, or does not know to have succeeded; nothing unless an
-- epoch has opened since the client's own.
CREATE FUNCTION perdure.tell_forgotten(remembered_epoch integer, teller text, enqueued uuid[], succeeded uuid[]) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    told integer;
BEGIN
    IF perdure.epoch_now() <= remembered_epoch THEN
        RETURN 0;
    END IF;
    INSERT INTO perdure.forgotten_jobs (epoch, job_id, lost, remembered_by)
        SELECT perdure.epoch_now(), u.id, 'enqueue', teller FROM unnest(enqueued) AS u (id)
        WHERE NOT EXISTS (SELECT FROM perdure.jobs j WHERE j.id = u.id)
        UNION
        SELECT perdure.epoch_now(), u.id, 'success', teller FROM unnest(succeeded) AS u (id)
        WHERE NOT EXISTS (SELECT FROM perdure.job_executions e WHERE e.job_id = u.id AND e.outcome = 'completed')
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS told = ROW_COUNT;
    RETURN told;
END $$;

-- These run with the rights of their owner, so that a role needs none on the tables behind them; who may halt everything is granted by name.
REVOKE EXECUTE ON FUNCTION perdure.open_epoch(integer, text, text, text, text), perdure.tell_forgotten(integer, text, uuid[], uuid[]) FROM PUBLIC;
