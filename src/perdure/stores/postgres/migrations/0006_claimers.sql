-- A claim needs a worker that lives.

-- Whether a worker may claim: not while it drains. Raises PD006 when it was declared dead, has ended or was never registered: its
-- leases belong to others then, and what it claimed would be taken for lost at once.
CREATE FUNCTION perdure.may_claim(worker uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    found perdure.worker_state := (SELECT w.state FROM perdure.workers w WHERE w.id = worker);
BEGIN
    IF found IN ('active', 'draining') THEN
        RETURN found = 'active';
    END IF;
    RAISE EXCEPTION 'worker % is % and may not claim', worker, coalesce(found::text, 'unknown') USING ERRCODE = 'PD006';
END $$;
