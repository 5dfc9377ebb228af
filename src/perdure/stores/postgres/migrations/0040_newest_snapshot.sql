-- Of when the newest automatic snapshot is, as the leader found or took it last: whoever looks at the database can tell that one is overdue.
ALTER TABLE perdure.snapshot_policy ADD COLUMN newest_at timestamptz;
