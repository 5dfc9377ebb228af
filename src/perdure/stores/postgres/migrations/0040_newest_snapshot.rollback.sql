ALTER TABLE perdure.snapshot_policy DROP COLUMN newest_at;
