-- Election of the one leader that runs the duties. A term ends when another is elected.

-- name: elect(name, holder, ttl_ms)
-- Become leader when nobody is, or renew one's own term; the row comes back only to the leader. A term that ends later than the
-- longest one could (300 s) was taken before the clock was set back, and counts as over: two leaders do no harm, none would.
INSERT INTO perdure.leaders AS l (name, holder, term, expires_at)
VALUES (:name, :holder, 1, now() + :ttl_ms::bigint * interval '1 millisecond')
ON CONFLICT (name) DO UPDATE SET
    term = CASE WHEN l.holder = excluded.holder THEN l.term ELSE l.term + 1 END,
    elected_at = CASE WHEN l.holder = excluded.holder THEN l.elected_at ELSE now() END,
    holder = excluded.holder, expires_at = excluded.expires_at
WHERE l.holder = excluded.holder OR l.expires_at < now() OR l.expires_at > now() + interval '310 seconds'
RETURNING term;

-- name: resign(name, holder)
-- Let another lead at once.
UPDATE perdure.leaders SET expires_at = now() - interval '1 second' WHERE name = :name AND holder = :holder RETURNING term;
