-- Forget how well workers are.

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
ALTER TABLE perdure.workers DROP COLUMN claim_share, DROP COLUMN healthy, DROP COLUMN health_scores;
