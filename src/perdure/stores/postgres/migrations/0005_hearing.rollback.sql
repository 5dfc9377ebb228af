ALTER TABLE perdure.workers DROP COLUMN deaf;
