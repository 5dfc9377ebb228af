ALTER TABLE perdure.snapshot_policy DROP COLUMN verified_at;
DROP TABLE perdure.known_errors;
