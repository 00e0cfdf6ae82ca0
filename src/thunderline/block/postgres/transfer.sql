-- Statements that take a database out row by row, and bring what was put in into service: see block/transfer.py.

-- name: read_metas
SELECT hash, body FROM metas ORDER BY hash;

-- name: read_nodes
SELECT id, name, revision, record, meta_hash FROM nodes ORDER BY id;

-- name: read_groups
SELECT id, name, revision, record, meta_hash FROM groups ORDER BY id;

-- name: read_link_sessions
SELECT id, session_id, node_id, open, record, meta_hash FROM link_sessions ORDER BY id;

-- name: read_events
SELECT revision, id, name, at_ms, source, actor, subject, entity_kind, entity_id, correlation_id, causation_id,
  event_version, deleted, payload, meta_hash, commit_end
FROM events ORDER BY revision;

-- name: read_clock_steps
SELECT revision FROM clock_steps ORDER BY revision;

-- name: read_event_minutes
SELECT minute, name, events FROM event_minutes ORDER BY minute, name;

-- name: read_log_marks
SELECT revision, age_ms FROM log_marks ORDER BY revision;

-- name: read_presence
SELECT node_id, state FROM presence ORDER BY node_id;

-- name: read_kept_answers
SELECT caller, key, request, status, body, kept_at_ms, expires_at_ms FROM kept_answers ORDER BY caller, key;

-- name: read_tokens
SELECT id, kind, name, revoked_at_ms, record FROM tokens ORDER BY id;

-- name: read_audit
SELECT id, at_ms, record FROM audit ORDER BY id;

-- name: read_documents
SELECT shelf, key, body FROM documents ORDER BY shelf, key;

-- name: read_heartbeat_blocks
SELECT id, min_at_ms, max_at_ms, beats, block
FROM heartbeat_blocks
WHERE id > (SELECT least(compacted_block, presence_block) FROM heartbeat_history CROSS JOIN checkpoint) ORDER BY id;

-- name: read_heartbeat_minutes
SELECT minute, node_key, raw
FROM heartbeat_minutes WHERE late OR minute >= (SELECT raw_from FROM heartbeat_history) ORDER BY minute, node_key;

-- name: read_heartbeat_rollups
SELECT minute, node_key, beats, worst, cpu_load_count, cpu_load_least, cpu_load_total, cpu_load_most,
  mem_used_mb_count, mem_used_mb_least, mem_used_mb_total, mem_used_mb_most, latency_ms_count, latency_ms_least,
  latency_ms_total, latency_ms_most
FROM heartbeat_rollups WHERE late OR minute >= (SELECT rollups_from FROM heartbeat_history) ORDER BY minute, node_key;

-- name: count_rows
-- As far as the statistics know, which is near enough to say how far something is.
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class AS c
WHERE c.relkind = 'r' AND (c.oid = to_regclass($1) OR c.oid IN (
  SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass($1)
));

-- name: read_state
SELECT h.log_id, h.revision, t.oldest, t.compacted, c.presence_block, b.compacted_block, b.pass_block, b.done_minute,
  b.done_key, a.now_ms, a.lead_ms, a.stood_ms
FROM log_head AS h CROSS JOIN log_tail AS t CROSS JOIN checkpoint AS c CROSS JOIN heartbeat_history AS b
LEFT JOIN age_clock AS a ON true;

-- name: is_empty
SELECT NOT EXISTS (SELECT FROM events) AND NOT EXISTS (SELECT FROM nodes) AND NOT EXISTS (SELECT FROM heartbeat_blocks)
  AND NOT EXISTS (SELECT FROM heartbeat_rollups) AND NOT EXISTS (SELECT FROM kept_answers);

-- name: knows_tokens
SELECT to_regclass('tokens') IS NOT NULL;

-- name: has_tokens
SELECT EXISTS (SELECT FROM tokens) OR EXISTS (SELECT FROM audit);

-- name: step_aside#
ALTER SCHEMA thunderline RENAME TO {name};

-- name: write_head!
INSERT INTO log_head (id, log_id, revision, last_at_ms)
VALUES (1, $1, $2, (SELECT at_ms FROM events WHERE revision <= $2 ORDER BY revision DESC LIMIT 1))
ON CONFLICT (id) DO UPDATE SET log_id = excluded.log_id, revision = excluded.revision, last_at_ms = excluded.last_at_ms;

-- name: write_tail!
UPDATE log_tail SET oldest = $1, compacted = $2 WHERE id = 1;

-- name: write_history!
UPDATE heartbeat_history SET compacted_block = $1, pass_block = $2, done_minute = $3, done_key = $4 WHERE id = 1;

-- name: write_sizes!
INSERT INTO heartbeat_sizes (minute, raw_bytes, rollup_bytes)
SELECT minute, sum(raw)::bigint, sum(rollup)::bigint FROM (
  SELECT minute, length(raw) + $1::bigint AS raw, 0 AS rollup FROM heartbeat_minutes
  UNION ALL
  SELECT minute, 0, $2::bigint FROM heartbeat_rollups
) AS sizes GROUP BY minute;

-- name: write_block_ids
SELECT setval('heartbeat_block_ids', greatest($1::bigint, (SELECT max(id) FROM heartbeat_blocks), 1));

-- name: analyze#
ANALYZE;
