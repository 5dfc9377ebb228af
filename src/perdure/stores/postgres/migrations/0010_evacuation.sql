-- Workers that take nothing new (cordoned), and workers whose jobs are moved away by a deadline (evacuated).

ALTER TABLE perdure.workers ADD COLUMN cordoned_at timestamptz, ADD COLUMN evacuate_by timestamptz, ADD COLUMN evacuated_at timestamptz;
