-- Back to a domain for the arguments: writes every job anew, and fails where somebody has stored arguments by hand that are no object.
CREATE DOMAIN perdure.arguments AS jsonb CHECK (jsonb_typeof(VALUE) = 'object');
ALTER TABLE perdure.jobs ALTER args TYPE perdure.arguments;
