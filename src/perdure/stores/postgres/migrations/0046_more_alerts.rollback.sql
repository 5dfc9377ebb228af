-- The programs of before do not know these rules, and stumble over their alerts.
DELETE FROM perdure.alerts WHERE rule IN ('PerdureNewErrorFingerprint', 'PerdureFlowBlocked', 'PerdureWorkerFlapping', 'PerdureWorkerFailureLikely',
    'PerdureRedisDown', 'PerdureQdrantDown', 'PerdureSnapshotUnverified', 'PerdureRestoreFailed', 'PerdureEmbeddingBacklog', 'PerdureModelMiscalibrated');
ALTER TABLE perdure.snapshot_policy DROP COLUMN unverified_since;
DROP TABLE perdure.known_errors;
