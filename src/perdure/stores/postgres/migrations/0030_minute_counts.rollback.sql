DROP TABLE perdure.minute_counts;
