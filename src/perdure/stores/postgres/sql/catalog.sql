-- What a schema is made of, read from the catalogs in words that are the same on every version of PostgreSQL.
-- The partitions of single days are left out: they come and go. Run with an empty search path, so that names are qualified.

-- name: types(schema)
-- The enumerations, and the domains with what they allow.
SELECT format('CREATE DOMAIN %s AS %s CHECK (%s);', t.oid::regtype, format_type(t.typbasetype, t.typtypmod),
    (SELECT pg_get_expr(k.conbin, 0) FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')) AS text
FROM pg_type t
WHERE t.typnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = :schema) AND t.typtype = 'd'
UNION ALL
SELECT format('CREATE TYPE %s AS ENUM (%s);', t.oid::regtype, string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)) AS text
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
WHERE t.typnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = :schema)
GROUP BY t.oid ORDER BY text;

-- name: tables(schema)
-- The tables with columns and constraints; a constraint that NOT NULL says already is not repeated.
SELECT CASE
    WHEN c.relispartition THEN format('CREATE TABLE %s PARTITION OF %s %s;', c.oid::regclass,
        (SELECT i.inhparent::regclass FROM pg_inherits i WHERE i.inhrelid = c.oid), pg_get_expr(c.relpartbound, c.oid))
    ELSE format(E'CREATE TABLE %s (\n%s\n)%s%s;', c.oid::regclass,
        concat_ws(E',\n',
            (SELECT string_agg(format('    %I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                    CASE a.attidentity WHEN 'a' THEN ' GENERATED ALWAYS AS IDENTITY' ELSE '' END,
                    CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)),
                    E',\n' ORDER BY a.attnum)
                FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
            (SELECT string_agg(format('    CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid)), E',\n' ORDER BY k.contype, k.conname)
                FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'c', 'f', 'x'))),
        ' PARTITION BY ' || pg_get_partkeydef(c.oid), ' WITH (' || array_to_string(c.reloptions, ', ') || ')')
    END AS text
FROM pg_class c
WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = :schema)
    AND c.relkind IN ('r', 'p') AND c.relname !~ '_\d{8}$'
ORDER BY c.relname;

-- name: indexes(schema)
-- The indexes that no constraint has made, and that no partition has of its parent.
SELECT pg_get_indexdef(i.indexrelid) || ';' AS text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = :schema) AND NOT c.relispartition
    AND c.relname !~ '_\d{8}'
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
ORDER BY c.relname;

-- name: functions(schema)
-- The functions.
SELECT pg_get_functiondef(p.oid) || ';' AS text FROM pg_proc p
WHERE p.pronamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = :schema)
ORDER BY p.oid::regprocedure::text;

-- name: triggers(schema)
-- The triggers.
SELECT pg_get_triggerdef(t.oid) || ';' AS text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = :schema) AND NOT t.tgisinternal AND NOT c.relispartition
ORDER BY t.tgname, c.relname;

-- name: views(schema)
-- The views.
SELECT format(E'CREATE VIEW %s AS\n%s', c.oid::regclass, pg_get_viewdef(c.oid)) AS text
FROM pg_class c
WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = :schema) AND c.relkind = 'v'
ORDER BY c.relname;
