-- Forget who is cordoned or evacuated.

ALTER TABLE perdure.workers DROP COLUMN evacuated_at, DROP COLUMN evacuate_by, DROP COLUMN cordoned_at;
