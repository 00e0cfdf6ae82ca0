-- Statements of `thunderline db`, for a schema of any age.

-- name: begin_work#
-- What takes long here is waited for by nobody but the person who asked.
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;

-- name: count_nodes
SELECT count(*) FROM nodes;

-- name: count_open_sessions
SELECT count(*) FROM link_sessions WHERE open;

-- name: count_events
SELECT count(*) FROM events;

-- name: sum_history
SELECT
  (SELECT count(*) FROM heartbeat_rollups WHERE late OR minute >= (SELECT rollups_from FROM heartbeat_history))
    + count(*),
  (SELECT coalesce(sum(beats), 0) FROM heartbeat_rollups
    WHERE late OR minute >= (SELECT rollups_from FROM heartbeat_history)) + coalesce(sum(beats), 0),
  (SELECT coalesce(sum(raw_bytes + rollup_bytes), 0) FROM heartbeat_sizes) + coalesce(sum(length(block)), 0)
FROM heartbeat_blocks WHERE id > (SELECT compacted_block FROM heartbeat_history);

-- name: schema_bytes
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
WHERE relnamespace = to_regnamespace('thunderline') AND relkind = 'r';

-- name: version_text
SELECT current_setting('server_version');

-- name: has_schema_named
SELECT to_regnamespace($1) IS NOT NULL;
