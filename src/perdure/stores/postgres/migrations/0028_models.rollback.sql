DROP TABLE perdure.model_posts;
DROP TABLE perdure.models;
