CREATE OR REPLACE FUNCTION perdure.aged_cut(cut pg_snapshot, era integer) RETURNS pg_snapshot LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE WHEN pg_snapshot_xmin(cut) >= '281474976710656'::xid8 THEN cut ELSE
        concat_ws(':', perdure.aged(pg_snapshot_xmin(cut), era), perdure.aged(pg_snapshot_xmax(cut), era),
            coalesce((SELECT string_agg(perdure.aged(x, era)::text, ',' ORDER BY x) FROM pg_snapshot_xip(cut) AS x), ''))::pg_snapshot END;
DROP FUNCTION perdure.restore_moved(uuid);
DROP FUNCTION perdure.draw_restore(uuid);
DROP FUNCTION perdure.restore_choices(uuid);
DROP FUNCTION perdure.restore_cases(pg_snapshot, uuid, timestamptz, integer[], uuid[]);
DROP FUNCTION perdure.graph_of(uuid);
UPDATE perdure.job_executions SET state = 'scheduled' WHERE state = 'pending';
ALTER TABLE perdure.job_executions DROP CONSTRAINT job_executions_state_check;
ALTER TABLE perdure.job_executions ADD CONSTRAINT job_executions_state_check CHECK (state NOT IN ('pending', 'running'));
DROP TABLE perdure.restore_items;
DROP TABLE perdure.restores;
