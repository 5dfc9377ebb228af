-- Trained models of failures, and which of them does what.

-- One row for each model; its body never changes.
CREATE TABLE perdure.models (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT now(),
    made_by text NOT NULL,
    body bytea NOT NULL CHECK (octet_length(body) <= 4194304),
    sha256 text NOT NULL,
    kind text NOT NULL,
    trained_from timestamptz NOT NULL,
    trained_to timestamptz NOT NULL,
    moments integer NOT NULL,
    failures integer NOT NULL,
    facts jsonb NOT NULL,
    replaced integer,
    retired_at timestamptz,
    why text NOT NULL DEFAULT ''
);

-- The one row that says which model is champion and which is its shadow, and when a leader last looked after them.
CREATE TABLE perdure.model_posts (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    champion integer REFERENCES perdure.models,
    champion_since timestamptz,
    shadow integer REFERENCES perdure.models,
    shadow_since timestamptz,
    looked_at timestamptz NOT NULL DEFAULT '-infinity',
    found text NOT NULL DEFAULT '',
    CHECK ((champion IS NULL) = (champion_since IS NULL)),
    CHECK ((shadow IS NULL) = (shadow_since IS NULL)),
    CHECK (shadow <> champion)
);
INSERT INTO perdure.model_posts DEFAULT VALUES;
