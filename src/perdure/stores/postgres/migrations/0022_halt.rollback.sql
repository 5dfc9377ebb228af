DROP FUNCTION perdure.halt(integer, text, text);
