DROP FUNCTION perdure.words_that_fit(text[], smallint, jsonb);
DROP FUNCTION perdure.args_that_fit(jsonb, jsonb);
DROP FUNCTION perdure.lanes_that_fit(jsonb);
DROP FUNCTION perdure.text_fits(text, boolean, text[]);
DROP FUNCTION perdure.number_fits(numeric, text, numeric[]);
DROP FUNCTION perdure.standing(uuid);
DROP INDEX perdure.job_executions_recent;
DROP INDEX perdure.job_executions_ended_badly;
