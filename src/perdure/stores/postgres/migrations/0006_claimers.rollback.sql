DROP FUNCTION perdure.may_claim(uuid);
