DROP TABLE perdure.shared_memory;
