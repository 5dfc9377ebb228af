DROP FUNCTION perdure.claim_gated(uuid[], integer, uuid, integer, boolean, integer);
