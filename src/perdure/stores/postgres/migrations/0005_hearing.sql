-- How many processes of a worker hear no notifications and so find their work by polling alone.

ALTER TABLE perdure.workers ADD COLUMN deaf integer NOT NULL DEFAULT 0 CHECK (deaf >= 0);
