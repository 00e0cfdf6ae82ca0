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

-- name: insert_events!
INSERT INTO events (revision, id, name, at_ms, source, actor, subject, entity_kind, entity_id, correlation_id,
  causation_id, event_version, deleted, payload, meta_hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

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

-- name: scan_presence
SELECT state FROM presence WHERE node_id > ? ORDER BY node_id LIMIT ?;

-- name: scan_blocks
SELECT id, block FROM heartbeat_blocks WHERE id > ? ORDER BY id LIMIT ?;

-- name: blocks_between
-- Newest first. A block without the node's 16 bytes in it is passed over without being read.
SELECT id, max_at_ms, block FROM heartbeat_blocks
WHERE max_at_ms >= ? AND min_at_ms < ? AND (?3 IS NULL OR instr(block, ?3) > 0) ORDER BY max_at_ms DESC, id DESC;

-- name: read_events
SELECT e.revision, e.id, e.name, e.at_ms, e.source, e.actor, e.subject, e.entity_kind, e.entity_id, e.correlation_id,
  e.causation_id, e.event_version, e.deleted, e.payload, m.body
FROM events AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash
WHERE e.revision > ? AND e.revision < ? ORDER BY e.revision LIMIT ?;

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
