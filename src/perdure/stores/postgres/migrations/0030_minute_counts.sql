-- Counts of each minute for the charts of the past. The leader makes them from the history and keeps them for two weeks; they follow from
-- it, so they can be made anew at any time, and each minute is counted as often as somebody likes.
CREATE TABLE perdure.minute_counts (
    minute timestamptz PRIMARY KEY,
    enqueued bigint NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    other bigint NOT NULL
) WITH (fillfactor = 80);
