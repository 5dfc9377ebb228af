-- Whether this still is the database that clients saw; epochs, and who adopts them.

-- name: look(marking, begin_anew, remembered, promised)
-- What the database is and how far it has come, and which of the promised jobs it does not have.
SELECT * FROM perdure.look_at_lineage(:marking, :begin_anew, :remembered::uuid, :promised::uuid[]);

-- name: require(epoch, remembered, mark)
-- Raise PD007 unless the database has the mark that a client remembers.
SELECT perdure.require_lineage(:epoch, :remembered::uuid, :mark::bigint) IS NULL AS continues;

-- name: halt(seen, cause, opener)
-- Open the epoch after the one that was seen, in which nothing runs until somebody adopts it.
SELECT perdure.halt(:seen, :cause, :opener) AS epoch;

-- name: open_epoch(seen, cause, opener, adopter, reason)
-- Open the epoch after the one that was seen: workers of before are dead, leases are given back.
SELECT perdure.open_epoch(:seen, :cause, :opener, :adopter::text, :reason::text) AS epoch;

-- name: tell_forgotten(epoch, teller, enqueued, succeeded)
-- Keep the ids that a client remembers and the database forgot.
SELECT perdure.tell_forgotten(:epoch, :teller, :enqueued::uuid[], :succeeded::uuid[]) AS told;

-- name: adopt(adopter, reason)
-- Let work go on in the newest epoch; no row unless the system is halted.
UPDATE perdure.epochs e SET adopted_at = now(), adopted_by = :adopter, reason = :reason
WHERE e.number = perdure.epoch_now() AND e.adopted_at IS NULL RETURNING e.number;

-- name: epoch_now()
-- The number of the newest epoch, and why it is halted.
SELECT perdure.epoch_now() AS number, perdure.halted_by() AS halted;

-- name: epochs()
-- The epochs, the newest first, with what was forgotten; the first one has no row and was never opened.
SELECT e.number, e.opened_at, e.opened_by, e.cause, e.released, e.adopted_at, e.adopted_by, e.reason,
    (SELECT count(*) FROM perdure.forgotten_jobs f WHERE f.epoch = e.number) AS forgotten
FROM perdure.epochs e ORDER BY e.number DESC;

-- name: forgotten(epoch)
-- The jobs that were forgotten when an epoch opened, and where each of them stands now.
SELECT f.job_id, f.lost, f.remembered_by, f.told_at, (SELECT s.state FROM perdure.standing(f.job_id) s) AS state
FROM perdure.forgotten_jobs f WHERE f.epoch = :epoch ORDER BY f.job_id, f.lost;
