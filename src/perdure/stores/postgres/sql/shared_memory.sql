-- Memory that workers and programs share. What has expired counts as absent in every statement, swept or not.

-- name: entry(namespace, key)
-- One entry.
SELECT m.namespace, m.key, m.value::text AS value, m.version, m.written_at, m.expires_at FROM perdure.shared_memory m
WHERE m.namespace = :namespace AND m.key = :key AND (m.expires_at IS NULL OR m.expires_at > now());

-- name: entries(namespace, prefix, after, most)
-- The next entries whose key begins with `prefix`, in the order of the bytes of their keys.
SELECT m.namespace, m.key, m.value::text AS value, m.version, m.written_at, m.expires_at FROM perdure.shared_memory m
WHERE m.namespace = :namespace AND m.key >= greatest(:prefix::text COLLATE "C", :after::text COLLATE "C") AND m.key > :after
    AND starts_with(m.key, :prefix) AND (m.expires_at IS NULL OR m.expires_at > now())
ORDER BY m.key LIMIT :most;

-- name: namespaces()
-- How many entries each namespace has.
SELECT m.namespace, count(*) AS entries FROM perdure.shared_memory m
WHERE m.expires_at IS NULL OR m.expires_at > now() GROUP BY m.namespace ORDER BY m.namespace;

-- name: write(namespace, key, value, ttl_ms)
-- Write an entry over whatever is there.
INSERT INTO perdure.shared_memory AS m (namespace, key, value, expires_at)
VALUES (:namespace, :key, :value::text::jsonb, now() + :ttl_ms::bigint * interval '1 millisecond')
ON CONFLICT (namespace, key) DO UPDATE
    SET value = excluded.value, version = excluded.version, written_at = excluded.written_at, expires_at = excluded.expires_at
RETURNING m.namespace, m.key, m.value::text AS value, m.version, m.written_at, m.expires_at;

-- name: write_absent(namespace, key, value, ttl_ms)
-- Write an entry where none is. No row: there is one.
INSERT INTO perdure.shared_memory AS m (namespace, key, value, expires_at)
VALUES (:namespace, :key, :value::text::jsonb, now() + :ttl_ms::bigint * interval '1 millisecond')
ON CONFLICT (namespace, key) DO UPDATE
    SET value = excluded.value, version = excluded.version, written_at = excluded.written_at, expires_at = excluded.expires_at
    WHERE m.expires_at <= now()
RETURNING m.namespace, m.key, m.value::text AS value, m.version, m.written_at, m.expires_at;

-- name: write_over(namespace, key, value, ttl_ms, version)
-- Write an entry over this version of it. No row: it is another one by now, or gone.
UPDATE perdure.shared_memory AS m SET value = :value::text::jsonb, version = gen_random_uuid(), written_at = now(),
    expires_at = now() + :ttl_ms::bigint * interval '1 millisecond'
WHERE m.namespace = :namespace AND m.key = :key AND m.version = :version AND (m.expires_at IS NULL OR m.expires_at > now())
RETURNING m.namespace, m.key, m.value::text AS value, m.version, m.written_at, m.expires_at;

-- name: erase(namespace, key, version)
-- Delete an entry, of any version or of this one; tells whether it was still there for readers.
DELETE FROM perdure.shared_memory m
WHERE m.namespace = :namespace AND m.key = :key AND (:version::uuid IS NULL OR m.version = :version)
RETURNING m.expires_at IS NULL OR m.expires_at > now() AS alive;
