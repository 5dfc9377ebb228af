DROP TABLE perdure.request_keys;
