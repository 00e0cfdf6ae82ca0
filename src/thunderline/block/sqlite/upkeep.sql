-- Statements of `thunderline db`, which looks at databases of any age: each is about tables that may be missing.

-- name: count_nodes
SELECT count(*) FROM nodes;

-- name: count_open_sessions
SELECT count(*) FROM link_sessions WHERE open = 1;

-- name: count_events
SELECT count(*) FROM events;

-- name: sum_heartbeats
SELECT count(*), coalesce(sum(beats), 0), coalesce(sum(length(block)), 0) FROM heartbeat_blocks;

-- name: sum_history
-- Blocks up to `compacted_block` are only waiting to be deleted; in the middle of a pass, some beats count twice.
SELECT
  (SELECT count(*) FROM heartbeat_rollups) + count(*),
  (SELECT coalesce(sum(beats), 0) FROM heartbeat_rollups) + coalesce(sum(beats), 0),
  (SELECT coalesce(sum(bytes), 0) FROM heartbeat_history) + coalesce(sum(length(block)), 0)
FROM heartbeat_blocks WHERE id > coalesce((SELECT compacted_block FROM heartbeat_history), 0);

-- name: has_migrations
SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'migrations';

-- name: begin_reading#
BEGIN;

-- name: renew_log!
UPDATE log_head SET log_id = ? WHERE id = 1;
