-- How well workers are: their last scores, whether they count as healthy, and which share of their slots they may fill.

ALTER TABLE perdure.workers ADD COLUMN health_scores real[] NOT NULL DEFAULT '{}', ADD COLUMN healthy boolean NOT NULL DEFAULT true,
    ADD COLUMN claim_share real NOT NULL DEFAULT 1;

-- Whether a worker may claim: not while it drains, is suspected, or is to fill none of its slots. PD006 tells one that does not live that all it
-- holds is lost.
CREATE OR REPLACE FUNCTION perdure.may_claim(worker uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    found record;
BEGIN
    SELECT w.state, w.suspected_at, w.claim_share INTO found FROM perdure.workers w WHERE w.id = worker;
    IF found.state IN ('active', 'draining') THEN
        RETURN found.state = 'active' AND found.suspected_at IS NULL AND found.claim_share > 0;
    END IF;
    RAISE EXCEPTION 'worker % is % and may not claim', worker, coalesce(found.state::text, 'unknown') USING ERRCODE = 'PD006';
END $$;
