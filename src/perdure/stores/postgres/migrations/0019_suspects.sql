-- Workers that have fallen silent and are not dead yet: they take nothing new, and lose nothing.

ALTER TABLE perdure.workers ADD COLUMN suspected_at timestamptz;

-- Whether a worker may claim: not while it drains, nor while it is suspected. PD006 tells one that does not live that all it holds is lost.
CREATE OR REPLACE FUNCTION perdure.may_claim(worker uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    found record;
BEGIN
    SELECT w.state, w.suspected_at INTO found FROM perdure.workers w WHERE w.id = worker;
    IF found.state IN ('active', 'draining') THEN
        RETURN found.state = 'active' AND found.suspected_at IS NULL;
    END IF;
    RAISE EXCEPTION 'worker % is % and may not claim', worker, coalesce(found.state::text, 'unknown') USING ERRCODE = 'PD006';
END $$;
