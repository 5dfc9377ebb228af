DROP TRIGGER leaders_halted ON perdure.leaders;
DROP TRIGGER workers_halted ON perdure.workers;
DROP FUNCTION perdure.tell_forgotten(integer, text, uuid[], uuid[]), perdure.open_epoch(integer, text, text, text, text),
    perdure.require_lineage(integer, uuid, bigint), perdure.look_at_lineage(boolean, boolean, uuid, uuid[]), perdure.require_adopted(),
    perdure.halted_by(), perdure.epoch_now();
DROP TABLE perdure.forgotten_jobs, perdure.stretches, perdure.epochs;
