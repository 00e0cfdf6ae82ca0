-- Every statement of the SQLite store. Those of a bulk write are given a `?` row, which `bulk.py` repeats.

-- name: create_migrations#
CREATE TABLE IF NOT EXISTS migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  applied_at_ms INTEGER NOT NULL
) STRICT;

-- name: select_migrations
SELECT version, name, sha256 FROM migrations ORDER BY version;

-- name: insert_migration!
INSERT INTO migrations (version, name, sha256, applied_at_ms) VALUES (?, ?, ?, ?);

-- name: count_tables
SELECT count(*) FROM sqlite_schema WHERE type = 'table';

-- name: begin#
BEGIN IMMEDIATE;

-- name: begin_read#
-- What is read until the end is of one moment.
BEGIN DEFERRED;

-- name: commit#
COMMIT;

-- name: rollback#
ROLLBACK;

-- name: create_head!
INSERT INTO log_head (id, log_id, revision, oldest, presence_block) VALUES (1, ?, 0, 0, 0) ON CONFLICT DO NOTHING;

-- name: select_head
SELECT log_id, revision, oldest FROM log_head WHERE id = 1;

-- name: advance_head!
-- The present revision is asserted, so that a batch planned against another state cannot be written.
UPDATE log_head SET revision = ? WHERE id = 1 AND revision = ?;

-- name: set_presence_block!
UPDATE log_head SET presence_block = ? WHERE id = 1;

-- name: select_presence_block
SELECT presence_block FROM log_head WHERE id = 1;

-- name: note_batch!
INSERT INTO writers (writer, batch_id) VALUES (?, ?) ON CONFLICT (writer) DO UPDATE SET batch_id = excluded.batch_id;

-- name: select_batch
SELECT batch_id FROM writers WHERE writer = ?;

-- name: insert_metas!
INSERT INTO metas (hash, body) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING;

-- name: upsert_nodes!
INSERT INTO nodes (id, name, revision, record, meta_hash) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
  revision = excluded.revision, record = excluded.record, meta_hash = excluded.meta_hash;

-- name: delete_node!
DELETE FROM nodes WHERE id = ?;

-- name: upsert_sessions!
INSERT INTO link_sessions (id, session_id, node_id, open, record, meta_hash) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
  node_id = excluded.node_id, open = excluded.open, record = excluded.record, meta_hash = excluded.meta_hash;

-- name: upsert_groups!
INSERT INTO groups (id, name, revision, record, meta_hash) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
  revision = excluded.revision, record = excluded.record, meta_hash = excluded.meta_hash;

-- name: delete_group!
DELETE FROM groups WHERE id = ?;

-- name: insert_events!
INSERT INTO events (revision, id, name, at_ms, source, actor, subject, entity_kind, entity_id, correlation_id,
  causation_id, event_version, deleted, payload, meta_hash, commit_end)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: count_events!
INSERT INTO event_minutes (minute, name, events) VALUES (?, ?, ?)
ON CONFLICT (minute, name) DO UPDATE SET events = events + excluded.events;

-- name: events_by_bin
SELECT (minute - ?1) / ?3, name, sum(events) FROM event_minutes WHERE minute >= ?1 AND minute < ?2 GROUP BY 1, 2;

-- name: delete_event_minutes!
DELETE FROM event_minutes WHERE minute < (SELECT at_ms / 60000 FROM events WHERE revision = ?);

-- name: note_clock_step!
INSERT INTO clock_steps (revision) VALUES (?);

-- name: insert_block!
INSERT INTO heartbeat_blocks (min_at_ms, max_at_ms, beats, block) VALUES (?, ?, ?, ?);

-- name: upsert_presence!
INSERT INTO presence (node_id, state) VALUES (?, ?) ON CONFLICT (node_id) DO UPDATE SET state = excluded.state;

-- name: scan_nodes
SELECT n.record, m.body FROM nodes AS n LEFT JOIN metas AS m ON m.hash = n.meta_hash
WHERE n.id > ? ORDER BY n.id LIMIT ?;

-- name: scan_open_sessions
SELECT s.record, m.body FROM link_sessions AS s LEFT JOIN metas AS m ON m.hash = s.meta_hash
WHERE s.open = 1 AND s.id > ? ORDER BY s.id LIMIT ?;

-- name: find_session
SELECT s.record, m.body FROM link_sessions AS s LEFT JOIN metas AS m ON m.hash = s.meta_hash WHERE s.session_id = ?;

-- name: get_session
SELECT s.record, m.body FROM link_sessions AS s LEFT JOIN metas AS m ON m.hash = s.meta_hash WHERE s.id = ?;

-- name: scan_groups
SELECT g.record, m.body FROM groups AS g LEFT JOIN metas AS m ON m.hash = g.meta_hash
WHERE g.id > ? ORDER BY g.id LIMIT ?;

-- name: scan_presence
SELECT state FROM presence WHERE node_id > ? ORDER BY node_id LIMIT ?;

-- name: scan_blocks
SELECT id, block FROM heartbeat_blocks WHERE id > ? ORDER BY id LIMIT ?;

-- name: blocks_between
-- Newest first. The sign keeps SQLite from walking the ids, which would sort the blocks.
SELECT id, max_at_ms, block FROM heartbeat_blocks
WHERE max_at_ms >= ? AND min_at_ms < ? AND id > ? AND +id <= ?
ORDER BY max_at_ms DESC, id DESC;

-- name: block_between
SELECT block FROM heartbeat_blocks WHERE id = ? AND max_at_ms >= ? AND min_at_ms < ?;

-- name: read_events
SELECT e.revision, e.id, e.name, e.at_ms, e.source, e.actor, e.subject, e.entity_kind, e.entity_id, e.correlation_id,
  e.causation_id, e.event_version, e.deleted, e.payload, m.body
FROM events AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash
WHERE e.revision > ? AND e.revision < ? ORDER BY e.revision LIMIT ?;

-- name: read_changes
-- All of them, which takes less than asking for the newest of each entity.
SELECT e.entity_id, e.entity_kind, e.deleted, e.payload, m.body
FROM events AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash
WHERE e.revision > ? AND e.revision <= ? ORDER BY e.revision;

-- name: read_entity
SELECT e.revision, e.id, e.name, e.at_ms, e.source, e.actor, e.subject, e.entity_kind, e.entity_id, e.correlation_id,
  e.causation_id, e.event_version, e.deleted, e.payload, m.body
FROM events AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash
WHERE e.entity_id = ? AND e.revision > ? AND e.revision <= ? ORDER BY e.revision LIMIT ?;

-- name: read_entity_at
SELECT e.revision, e.id, e.name, e.at_ms, e.source, e.actor, e.subject, e.entity_kind, e.entity_id, e.correlation_id,
  e.causation_id, e.event_version, e.deleted, e.payload, m.body
FROM events AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash
WHERE e.entity_id = ? AND e.revision <= ? ORDER BY e.revision DESC LIMIT 1;

-- name: read_past
-- Steps from entity to entity along the index, however many events each has.
WITH RECURSIVE entities (id) AS (
  SELECT min(entity_id) FROM events WHERE entity_id > ?1
  UNION ALL
  SELECT (SELECT min(entity_id) FROM events WHERE entity_id > entities.id) FROM entities WHERE entities.id IS NOT NULL
)
SELECT e.revision, e.id, e.name, e.at_ms, e.source, e.actor, e.subject, e.entity_kind, e.entity_id, e.correlation_id,
  e.causation_id, e.event_version, e.deleted, e.payload, m.body
FROM entities CROSS JOIN events AS e ON e.revision = (
  SELECT max(revision) FROM events WHERE entity_id = entities.id AND revision <= ?2
) LEFT JOIN metas AS m ON m.hash = e.meta_hash
LIMIT ?3;

-- name: clock_steps
SELECT revision FROM clock_steps WHERE revision <= ? ORDER BY revision DESC;

-- name: event_time
SELECT revision, at_ms FROM events WHERE revision >= ? AND revision <= ? ORDER BY revision LIMIT 1;

-- name: commit_end
SELECT commit_end FROM events WHERE revision = ?;

-- name: read_snapshot
-- The first part is written last: without it the others are of no use. One statement: parts may be removed meanwhile.
SELECT revision, body FROM snapshots WHERE revision = (
  SELECT revision FROM snapshots WHERE revision <= ? AND revision >= ? AND part = 0 ORDER BY revision DESC LIMIT 1
) ORDER BY part;

-- name: delete_snapshot!
DELETE FROM snapshots WHERE revision = ?;

-- name: insert_snapshot!
INSERT INTO snapshots (revision, part, body) VALUES (?, ?, ?)
ON CONFLICT (revision, part) DO UPDATE SET body = excluded.body;

-- name: select_tail
SELECT oldest, compacted FROM log_head WHERE id = 1;

-- name: set_oldest!
UPDATE log_head SET oldest = ? WHERE id = 1 AND oldest <= ?;

-- name: set_compacted!
UPDATE log_head SET compacted = ? WHERE id = 1;

-- name: delete_snapshots!
DELETE FROM snapshots WHERE rowid IN (SELECT rowid FROM snapshots WHERE revision < ? ORDER BY revision, part LIMIT ?);

-- name: delete_superseded!
-- What came before an event of the same entity. Each event is looked at once, as the one that came after.
DELETE FROM events WHERE revision IN (
  SELECT earlier.revision FROM events AS e
  JOIN events AS earlier ON earlier.entity_id = e.entity_id AND earlier.revision < e.revision
  WHERE e.revision > ? AND e.revision <= ?
);

-- name: delete_closed_sessions!
-- Those that were not opened again since.
DELETE FROM link_sessions WHERE open = 0 AND id IN (
  SELECT e.entity_id FROM events AS e
  WHERE e.revision > ? AND e.revision <= ? AND e.name = 'cluster.link.closed' AND NOT EXISTS (
    SELECT 1 FROM events AS later WHERE later.entity_id = e.entity_id AND later.revision > e.revision
  )
);

-- name: delete_ends!
-- After the end of an entity there is nothing to tell of it.
DELETE FROM events WHERE revision > ? AND revision <= ? AND (deleted = 1 OR name = 'cluster.link.closed');

-- name: insert_mark!
INSERT INTO log_marks (revision, age_ms) VALUES (?, ?) ON CONFLICT (revision) DO NOTHING;

-- name: mark_below
SELECT revision, age_ms FROM log_marks WHERE revision <= ? AND age_ms <= ? ORDER BY revision DESC LIMIT 1;

-- name: delete_marks!
DELETE FROM log_marks WHERE revision < ?;

-- name: create_history!
INSERT INTO heartbeat_history (id, step, compacted_block, pass_block, done_minute, done_key, bytes)
VALUES (1, 0, 0, 0, -9223372036854775808, x'', 0) ON CONFLICT DO NOTHING;

-- name: select_history
SELECT step, compacted_block, pass_block, done_minute, done_key, bytes FROM heartbeat_history WHERE id = 1;

-- name: step_history!
UPDATE heartbeat_history
SET step = step + 1, compacted_block = ?, pass_block = ?, done_minute = ?, done_key = ?, bytes = ?
WHERE id = 1 AND step = ?;

-- name: select_history_clock
SELECT clock_ms, lead_ms, stood_ms FROM heartbeat_history WHERE id = 1 AND clock_ms IS NOT NULL;

-- name: set_history_clock!
UPDATE heartbeat_history SET clock_ms = ?, lead_ms = ?, stood_ms = ? WHERE id = 1;

-- name: newest_block
SELECT max(id) FROM heartbeat_blocks;

-- name: blocks_to_compact
SELECT id, max_at_ms, beats FROM heartbeat_blocks WHERE id > ? ORDER BY id;

-- name: blocks_of_pass
SELECT block FROM heartbeat_blocks WHERE id > ? AND id <= ? ORDER BY id;

-- name: bytes_in_blocks
SELECT sum(length(block)) FROM heartbeat_blocks WHERE id > ?;

-- name: compacted_blocks
SELECT id, length(block) FROM heartbeat_blocks WHERE id <= ? ORDER BY id LIMIT ?;

-- name: delete_blocks!
DELETE FROM heartbeat_blocks WHERE id <= ?;

-- name: has_minute
SELECT 1 FROM heartbeat_rollups WHERE minute = ? LIMIT 1;

-- name: select_minute
SELECT m.raw FROM heartbeat_rollups AS r LEFT JOIN heartbeat_minutes AS m USING (minute, node_key)
WHERE r.minute = ? AND r.node_key = ?;

-- name: upsert_minutes!
INSERT INTO heartbeat_minutes (minute, node_key, raw) VALUES (?, ?, ?)
ON CONFLICT (minute, node_key) DO UPDATE SET raw = excluded.raw;

-- name: merge_rollups!
INSERT INTO heartbeat_rollups (
  minute, node_key, beats, worst, cpu_load_count, cpu_load_least, cpu_load_total, cpu_load_most, mem_used_mb_count,
  mem_used_mb_least, mem_used_mb_total, mem_used_mb_most, latency_ms_count, latency_ms_least, latency_ms_total,
  latency_ms_most
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (minute, node_key) DO UPDATE SET
  beats = beats + excluded.beats,
  worst = max(worst, excluded.worst),
  cpu_load_count = cpu_load_count + excluded.cpu_load_count,
  cpu_load_least = coalesce(min(cpu_load_least, excluded.cpu_load_least), cpu_load_least, excluded.cpu_load_least),
  cpu_load_total = coalesce(cpu_load_total + excluded.cpu_load_total, cpu_load_total, excluded.cpu_load_total),
  cpu_load_most = coalesce(max(cpu_load_most, excluded.cpu_load_most), cpu_load_most, excluded.cpu_load_most),
  mem_used_mb_count = mem_used_mb_count + excluded.mem_used_mb_count,
  mem_used_mb_least =
    coalesce(min(mem_used_mb_least, excluded.mem_used_mb_least), mem_used_mb_least, excluded.mem_used_mb_least),
  mem_used_mb_total =
    coalesce(mem_used_mb_total + excluded.mem_used_mb_total, mem_used_mb_total, excluded.mem_used_mb_total),
  mem_used_mb_most =
    coalesce(max(mem_used_mb_most, excluded.mem_used_mb_most), mem_used_mb_most, excluded.mem_used_mb_most),
  latency_ms_count = latency_ms_count + excluded.latency_ms_count,
  latency_ms_least =
    coalesce(min(latency_ms_least, excluded.latency_ms_least), latency_ms_least, excluded.latency_ms_least),
  latency_ms_total =
    coalesce(latency_ms_total + excluded.latency_ms_total, latency_ms_total, excluded.latency_ms_total),
  latency_ms_most =
    coalesce(max(latency_ms_most, excluded.latency_ms_most), latency_ms_most, excluded.latency_ms_most);

-- name: oldest_minutes
SELECT minute, node_key, length(raw) FROM heartbeat_minutes WHERE minute < ? ORDER BY minute, node_key LIMIT ?;

-- name: oldest_rollups
SELECT r.minute, r.node_key, length(m.raw)
FROM heartbeat_rollups AS r LEFT JOIN heartbeat_minutes AS m USING (minute, node_key)
WHERE r.minute < ? ORDER BY r.minute, r.node_key LIMIT ?;

-- name: delete_minutes!
DELETE FROM heartbeat_minutes WHERE (minute, node_key) <= (?, ?);

-- name: delete_rollups!
DELETE FROM heartbeat_rollups WHERE (minute, node_key) <= (?, ?);

-- name: minutes_of_all
SELECT minute, node_key, raw FROM heartbeat_minutes WHERE minute >= ? AND minute <= ?
ORDER BY minute DESC, node_key DESC;

-- name: minutes_of_node
-- Newest first: from each minute that there is straight to the one before, so that what others keep is not read.
WITH RECURSIVE walk (minute) AS (
  SELECT max(minute) FROM heartbeat_minutes WHERE minute <= ?2
  UNION ALL
  SELECT (SELECT max(minute) FROM heartbeat_minutes AS earlier WHERE earlier.minute < walk.minute)
  FROM walk WHERE walk.minute > ?1
)
SELECT m.minute, m.node_key, m.raw FROM walk CROSS JOIN heartbeat_minutes AS m
ON m.minute = walk.minute AND m.node_key = ?3 WHERE walk.minute >= ?1;

-- name: rollups_of_node
-- Merged by buckets of ?4 minutes, numbered from ?1 on.
WITH RECURSIVE walk (minute) AS (
  SELECT min(minute) FROM heartbeat_rollups WHERE minute >= ?1
  UNION ALL
  SELECT (SELECT min(minute) FROM heartbeat_rollups AS later WHERE later.minute > walk.minute)
  FROM walk WHERE walk.minute < ?2
)
SELECT (r.minute - ?1) / ?4 AS bucket,
  sum(r.beats), max(r.worst), sum(r.cpu_load_count), min(r.cpu_load_least), sum(r.cpu_load_total),
  max(r.cpu_load_most), sum(r.mem_used_mb_count), min(r.mem_used_mb_least), sum(r.mem_used_mb_total),
  max(r.mem_used_mb_most), sum(r.latency_ms_count), min(r.latency_ms_least), sum(r.latency_ms_total),
  max(r.latency_ms_most)
FROM walk CROSS JOIN heartbeat_rollups AS r ON r.minute = walk.minute AND r.node_key = ?3
WHERE walk.minute <= ?2 GROUP BY bucket;

-- name: rolled_up_only
-- Whether the node has a minute whose beats are not kept one by one.
WITH RECURSIVE walk (minute) AS (
  SELECT min(minute) FROM heartbeat_rollups WHERE minute >= ?1
  UNION ALL
  SELECT (SELECT min(minute) FROM heartbeat_rollups AS later WHERE later.minute > walk.minute)
  FROM walk WHERE walk.minute < ?2
)
SELECT 1 FROM walk CROSS JOIN heartbeat_rollups AS r ON r.minute = walk.minute AND r.node_key = ?3
LEFT JOIN heartbeat_minutes AS m ON m.minute = r.minute AND m.node_key = r.node_key
WHERE walk.minute <= ?2 AND m.minute IS NULL LIMIT 1;

-- name: insert_answers!
-- No clause for a conflict: a second request with a key that is in use must fail whole.
INSERT INTO kept_answers (caller, key, request, status, body, kept_at_ms, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: find_answer
SELECT caller, key, request, status, body, kept_at_ms, expires_at_ms FROM kept_answers WHERE caller = ? AND key = ?;

-- name: select_expired_answers
SELECT id FROM kept_answers WHERE expires_at_ms <= ? ORDER BY expires_at_ms LIMIT ?;

-- name: delete_answer!
DELETE FROM kept_answers WHERE id = ?;

-- name: delete_expired_answer!
DELETE FROM kept_answers WHERE caller = ? AND key = ? AND expires_at_ms <= ?;

-- name: upsert_tokens!
INSERT INTO tokens (id, kind, name, revoked_at_ms, record) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET revoked_at_ms = excluded.revoked_at_ms, record = excluded.record;

-- name: delete_token!
DELETE FROM tokens WHERE id = ?;

-- name: scan_tokens
SELECT record FROM tokens WHERE id > ? ORDER BY id LIMIT ?;

-- name: insert_audit!
INSERT INTO audit (id, at_ms, record) VALUES (?, ?, ?);

-- name: read_audit
SELECT record FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?;

-- name: trim_audit!
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at_ms < ? ORDER BY at_ms, id LIMIT ?);

-- name: upsert_documents!
INSERT INTO documents (shelf, key, body) VALUES (?, ?, ?)
ON CONFLICT (shelf, key) DO UPDATE SET body = excluded.body;

-- name: delete_document!
DELETE FROM documents WHERE shelf = ? AND key = ?;

-- name: scan_documents
SELECT shelf, key, body FROM documents WHERE shelf = ? AND key > ? ORDER BY key LIMIT ?;
