-- Let suspects claim again.

CREATE OR REPLACE FUNCTION perdure.may_claim(worker uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    found perdure.worker_state := (SELECT w.state FROM perdure.workers w WHERE w.id = worker);
BEGIN
    IF found IN ('active', 'draining') THEN
        RETURN found = 'active';
    END IF;
    RAISE EXCEPTION 'worker % is % and may not claim', worker, coalesce(found::text, 'unknown') USING ERRCODE = 'PD006';
END $$;
ALTER TABLE perdure.workers DROP COLUMN suspected_at;
