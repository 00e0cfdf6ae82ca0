-- Statements that take a database out row by row, and put one together again: see block/transfer.py.

-- name: read_metas
SELECT hash, body FROM metas ORDER BY hash;

-- name: count_metas
SELECT count(*) FROM metas;

-- name: write_metas!
INSERT INTO metas (hash, body)
VALUES (?, ?);

-- name: read_nodes
SELECT id, name, revision, record, meta_hash FROM nodes ORDER BY id;

-- name: count_nodes
SELECT count(*) FROM nodes;

-- name: write_nodes!
INSERT INTO nodes (id, name, revision, record, meta_hash)
VALUES (?, ?, ?, ?, ?);

-- name: read_groups
SELECT id, name, revision, record, meta_hash FROM groups ORDER BY id;

-- name: count_groups
SELECT count(*) FROM groups;

-- name: write_groups!
INSERT INTO groups (id, name, revision, record, meta_hash)
VALUES (?, ?, ?, ?, ?);

-- name: read_link_sessions
SELECT id, session_id, node_id, open, record, meta_hash FROM link_sessions ORDER BY id;

-- name: count_link_sessions
SELECT count(*) FROM link_sessions;

-- name: write_link_sessions!
INSERT INTO link_sessions (id, session_id, node_id, open, record, meta_hash)
VALUES (?, ?, ?, ?, ?, ?);

-- name: read_events
SELECT revision, id, name, at_ms, source, actor, subject, entity_kind, entity_id, correlation_id, causation_id,
  event_version, deleted, payload, meta_hash, coalesce(commit_end, revision)
FROM events ORDER BY revision;

-- name: count_events
SELECT count(*) FROM events;

-- name: write_events!
INSERT INTO events (revision, id, name, at_ms, source, actor, subject, entity_kind, entity_id, correlation_id,
  causation_id, event_version, deleted, payload, meta_hash, commit_end)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: read_clock_steps
SELECT revision FROM clock_steps ORDER BY revision;

-- name: count_clock_steps
SELECT count(*) FROM clock_steps;

-- name: write_clock_steps!
INSERT INTO clock_steps (revision)
VALUES (?);

-- name: read_event_minutes
SELECT minute, name, events FROM event_minutes ORDER BY minute, name;

-- name: count_event_minutes
SELECT count(*) FROM event_minutes;

-- name: write_event_minutes!
INSERT INTO event_minutes (minute, name, events)
VALUES (?, ?, ?);

-- name: read_log_marks
SELECT revision, age_ms FROM log_marks ORDER BY revision;

-- name: count_log_marks
SELECT count(*) FROM log_marks;

-- name: write_log_marks!
INSERT INTO log_marks (revision, age_ms)
VALUES (?, ?);

-- name: read_presence
SELECT node_id, state FROM presence ORDER BY node_id;

-- name: count_presence
SELECT count(*) FROM presence;

-- name: write_presence!
INSERT INTO presence (node_id, state)
VALUES (?, ?);

-- name: read_kept_answers
SELECT caller, key, request, status, body, kept_at_ms, expires_at_ms FROM kept_answers ORDER BY caller, key;

-- name: count_kept_answers
SELECT count(*) FROM kept_answers;

-- name: write_kept_answers!
INSERT INTO kept_answers (caller, key, request, status, body, kept_at_ms, expires_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: read_tokens
SELECT id, kind, name, revoked_at_ms, record FROM tokens ORDER BY id;

-- name: count_tokens
SELECT count(*) FROM tokens;

-- name: write_tokens!
INSERT INTO tokens (id, kind, name, revoked_at_ms, record)
VALUES (?, ?, ?, ?, ?);

-- name: read_audit
SELECT id, at_ms, record FROM audit ORDER BY id;

-- name: count_audit
SELECT count(*) FROM audit;

-- name: write_audit!
INSERT INTO audit (id, at_ms, record)
VALUES (?, ?, ?);

-- name: read_documents
SELECT shelf, key, body FROM documents ORDER BY shelf, key;

-- name: count_documents
SELECT count(*) FROM documents;

-- name: write_documents!
INSERT INTO documents (shelf, key, body) VALUES (?, ?, ?);

-- name: read_heartbeat_blocks
SELECT id, min_at_ms, max_at_ms, beats, block FROM heartbeat_blocks ORDER BY id;

-- name: count_heartbeat_blocks
SELECT count(*) FROM heartbeat_blocks;

-- name: write_heartbeat_blocks!
INSERT INTO heartbeat_blocks (id, min_at_ms, max_at_ms, beats, block)
VALUES (?, ?, ?, ?, ?);

-- name: read_heartbeat_minutes
SELECT minute, node_key, raw FROM heartbeat_minutes ORDER BY minute, node_key;

-- name: count_heartbeat_minutes
SELECT count(*) FROM heartbeat_minutes;

-- name: write_heartbeat_minutes!
INSERT INTO heartbeat_minutes (minute, node_key, raw)
VALUES (?, ?, ?);

-- name: read_heartbeat_rollups
SELECT minute, node_key, beats, worst, cpu_load_count, cpu_load_least, cpu_load_total, cpu_load_most,
  mem_used_mb_count, mem_used_mb_least, mem_used_mb_total, mem_used_mb_most, latency_ms_count, latency_ms_least,
  latency_ms_total, latency_ms_most
FROM heartbeat_rollups ORDER BY minute, node_key;

-- name: count_heartbeat_rollups
SELECT count(*) FROM heartbeat_rollups;

-- name: write_heartbeat_rollups!
INSERT INTO heartbeat_rollups (minute, node_key, beats, worst, cpu_load_count, cpu_load_least, cpu_load_total,
  cpu_load_most, mem_used_mb_count, mem_used_mb_least, mem_used_mb_total, mem_used_mb_most, latency_ms_count,
  latency_ms_least, latency_ms_total, latency_ms_most)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: read_state
SELECT h.log_id, h.revision, h.oldest, h.compacted, h.presence_block, b.compacted_block, b.pass_block, b.done_minute,
  b.done_key, b.clock_ms, b.lead_ms, b.stood_ms
FROM log_head AS h CROSS JOIN heartbeat_history AS b WHERE h.id = 1 AND b.id = 1;

-- name: write_head!
INSERT INTO log_head (id, log_id, revision, oldest, compacted, presence_block) VALUES (1, ?, ?, ?, ?, ?);

-- name: write_history!
INSERT INTO heartbeat_history (id, step, compacted_block, pass_block, done_minute, done_key, bytes, clock_ms, lead_ms,
  stood_ms)
SELECT 1, 0, ?1, ?2, ?3, ?4, (SELECT coalesce(sum(length(raw) + ?8), 0) FROM heartbeat_minutes)
  + ?9 * (SELECT count(*) FROM heartbeat_rollups), ?5, ?6, ?7;

-- name: clear_block_ids!
DELETE FROM sqlite_sequence WHERE name = 'heartbeat_blocks';

-- name: write_block_ids!
-- Later blocks get later ids, also where the newest are gone.
INSERT INTO sqlite_sequence (name, seq)
SELECT 'heartbeat_blocks', max(?, coalesce((SELECT max(id) FROM heartbeat_blocks), 0));
