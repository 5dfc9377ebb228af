-- Take the functions of upkeep away; the partitions stay.

DROP FUNCTION perdure.drop_partition(text, timestamptz, timestamptz), perdure.history_needed(text, timestamptz),
    perdure.bodies_needed(uuid, uuid, timestamptz), perdure.make_partition(text, timestamptz), perdure.obstacle(regclass[]),
    perdure.missing_partitions(integer);
DROP VIEW perdure.day_partitions;
