-- Take the functions, the view and the trigger away.

DROP VIEW perdure.job_states;
DROP TRIGGER job_dependencies_depth ON perdure.job_dependencies;
DROP FUNCTION perdure.make_partitions(integer), perdure.lock_keys(text[]), perdure.unpark(text[]),
    perdure.enqueue_linked(jsonb), perdure.read_links(jsonb),
    perdure.deepen(uuid[], smallint[], boolean[], integer[], integer[], smallint[], smallint[]),
    perdure.refuse_circle(uuid[], integer[], integer[], integer[]), perdure.take_unique_keys(jsonb), perdure.check_jobs(jsonb), perdure.refuse_job(jsonb),
    perdure.enqueue_jobs(jsonb, text), perdure.ensure_lanes(jsonb), perdure.read_jobs(jsonb),
    perdure.resolve_blocked(uuid[]), perdure.endings(uuid[]), perdure.settle_edges(uuid[], perdure.job_state),
    perdure.check_depth(), perdure.new_job_id(), perdure.made_at(uuid), perdure.id_floor(timestamptz),
    perdure.counts_in(smallint, perdure.job_state), perdure.band_of(smallint, smallint), perdure.rank_of(timestamptz, smallint);
