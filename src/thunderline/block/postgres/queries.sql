-- Every statement of the PostgreSQL store. Rows of a bulk write are given as one array for each column.

-- name: server_facts
SELECT
  current_setting('server_version_num')::integer AS version,
  current_setting('server_version') AS version_text,
  current_setting('server_encoding') AS encoding,
  current_setting('fsync') AS fsync,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('transaction_read_only') AS read_only,
  current_database() AS database;

-- name: configure
SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS setting (name, value);

-- name: has_schema
SELECT to_regnamespace('thunderline') IS NOT NULL AS has_schema, to_regclass('thunderline.migrations') IS NOT NULL AS is_ours,
  (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('thunderline')) AS relations;

-- name: create_schema#
CREATE SCHEMA thunderline;

-- name: create_migrations#
CREATE TABLE thunderline.migrations (
  version integer PRIMARY KEY,
  name text NOT NULL,
  sha256 text NOT NULL,
  applied_at_ms bigint NOT NULL
);

-- name: lock_migrations#
LOCK TABLE migrations IN EXCLUSIVE MODE;

-- name: no_statement_timeout#
-- Until the end of the transaction.
SET LOCAL statement_timeout = 0;

-- name: select_migrations
SELECT version, name, sha256 FROM migrations ORDER BY version;

-- name: insert_migration!
INSERT INTO migrations (version, name, sha256, applied_at_ms) VALUES ($1, $2, $3, $4);

-- name: begin#
BEGIN;

-- name: begin_read#
-- What is read until the end is of one moment.
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: commit#
COMMIT;

-- name: rollback#
ROLLBACK;

-- name: set_lock_timeout#
SELECT set_config('lock_timeout', $1, false);

-- name: take_lock#
-- Waits for it for as long as `lock_timeout`.
SELECT pg_advisory_lock($1);

-- name: try_lock
SELECT pg_try_advisory_lock($1);

-- name: unlock
SELECT pg_advisory_unlock($1);

-- name: claim_writer
-- For a new holder: it may, where the former one has let go, or would hold the lock that is held here if it were alive.
INSERT INTO writers AS w (writer, holder, epoch, by_lock, lease_until, pid, host, since)
VALUES ($1, $2, 1, $3, clock_timestamp() + $4 * interval '1 second', $5, $6, clock_timestamp())
ON CONFLICT (writer) DO UPDATE SET holder = excluded.holder, epoch = w.epoch + 1, by_lock = excluded.by_lock,
  lease_until = excluded.lease_until, pid = excluded.pid, host = excluded.host, since = excluded.since
WHERE w.lease_until <= clock_timestamp() OR (w.by_lock AND excluded.by_lock)
RETURNING epoch;

-- name: is_holder
SELECT EXISTS (SELECT FROM writers WHERE writer = $1 AND holder = $2);

-- name: select_holder
SELECT holder, pid, host, since, lease_until, lease_until > clock_timestamp() AS is_held,
  extract(epoch FROM lease_until - clock_timestamp())::double precision AS left_s
FROM writers WHERE writer = $1;

-- name: begin_epoch
-- For its holder, over a new connection: waits for what the former one still has under way, and bars what comes later.
UPDATE writers SET epoch = epoch + 1, lease_until = clock_timestamp() + $3 * interval '1 second', by_lock = $4
WHERE writer = $1 AND holder = $2 RETURNING epoch, batch_id;

-- name: renew_lease!
UPDATE writers SET lease_until = clock_timestamp() + $3 * interval '1 second' WHERE writer = $1 AND epoch = $2;

-- name: release_writer!
UPDATE writers SET lease_until = '-infinity' WHERE writer = $1 AND holder = $2;

-- name: own_session
SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid();

-- name: end_session
SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2;

-- name: create_head!
INSERT INTO log_head (id, log_id, revision) VALUES (1, $1, 0) ON CONFLICT DO NOTHING;

-- name: select_head
SELECT log_id, revision, oldest FROM log_head CROSS JOIN log_tail;

-- name: advance_head
-- The present revision is asserted, so that a batch planned against another state cannot be written; so is the epoch.
WITH before AS (
  SELECT last_at_ms FROM log_head WHERE id = 1 AND revision = $1 FOR UPDATE
), head AS (
  UPDATE log_head SET revision = $2, last_at_ms = $3 FROM before WHERE id = 1 RETURNING before.last_at_ms
), me AS (
  UPDATE writers SET batch_id = $4, lease_until = clock_timestamp() + $7 * interval '1 second'
  WHERE writer = $5 AND epoch = $6 RETURNING epoch
)
SELECT (SELECT count(*) FROM head) AS heads, (SELECT max(last_at_ms) FROM head) AS before_ms,
  (SELECT count(*) FROM me) AS writers;

-- name: note_batch!
UPDATE writers SET batch_id = $2, lease_until = clock_timestamp() + $4 * interval '1 second'
WHERE writer = $1 AND epoch = $3;

-- name: append_block
-- A whole commit: beats alone take no counter.
WITH me AS (
  UPDATE writers SET batch_id = $2, lease_until = clock_timestamp() + $4 * interval '1 second'
  WHERE writer = $1 AND epoch = $3 RETURNING epoch
)
INSERT INTO heartbeat_blocks (min_at_ms, max_at_ms, beats, block) SELECT $5, $6, $7, $8 FROM me RETURNING id;

-- name: insert_block
INSERT INTO heartbeat_blocks (min_at_ms, max_at_ms, beats, block) VALUES ($1, $2, $3, $4) RETURNING id;

-- name: delete_nodes!
DELETE FROM nodes WHERE id = ANY ($1::text[]);

-- name: delete_groups!
DELETE FROM groups WHERE id = ANY ($1::text[]);

-- name: insert_metas!
INSERT INTO metas (hash, body) SELECT * FROM unnest($1::bytea[], $2::text[]) ON CONFLICT (hash) DO NOTHING;

-- name: write_log!
-- The events of a batch and how many came in each minute.
WITH counted AS (
  INSERT INTO event_minutes AS m (minute, name, events) SELECT * FROM unnest($17::bigint[], $18::text[], $19::bigint[])
  ON CONFLICT (minute, name) DO UPDATE SET events = m.events + excluded.events
)
INSERT INTO events (revision, id, name, at_ms, source, actor, subject, entity_kind, entity_id, correlation_id,
  causation_id, event_version, deleted, payload, meta_hash, commit_end)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::text[], $10::text[], $11::text[], $12::integer[], $13::boolean[], $14::text[], $15::bytea[], $16::bigint[]);

-- name: upsert_nodes!
INSERT INTO nodes (id, name, revision, record, meta_hash)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bytea[])
ON CONFLICT (id) DO UPDATE SET
  revision = excluded.revision, record = excluded.record, meta_hash = excluded.meta_hash;

-- name: upsert_sessions!
INSERT INTO link_sessions (id, session_id, node_id, open, record, meta_hash)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::bytea[])
ON CONFLICT (id) DO UPDATE SET
  node_id = excluded.node_id, open = excluded.open, record = excluded.record, meta_hash = excluded.meta_hash;

-- name: upsert_groups!
INSERT INTO groups (id, name, revision, record, meta_hash)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bytea[])
ON CONFLICT (id) DO UPDATE SET
  revision = excluded.revision, record = excluded.record, meta_hash = excluded.meta_hash;

-- name: note_clock_step!
INSERT INTO clock_steps (revision) VALUES ($1);

-- name: upsert_presence!
INSERT INTO presence (node_id, state) SELECT * FROM unnest($1::text[], $2::bytea[])
ON CONFLICT (node_id) DO UPDATE SET state = excluded.state;

-- name: set_presence_block!
UPDATE checkpoint SET presence_block = $1 WHERE id = 1;

-- name: select_presence_block
SELECT presence_block FROM checkpoint WHERE id = 1;

-- name: insert_answers!
-- No clause for a conflict: a second request with a key that is in use must fail whole.
INSERT INTO kept_answers (caller, key, request, status, body, kept_at_ms, expires_at_ms)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::integer[], $5::bytea[], $6::bigint[], $7::bigint[]);

-- name: delete_expired_answers!
-- Those of these callers and keys, and at most so many others.
DELETE FROM kept_answers WHERE expires_at_ms <= $3 AND (caller, key) IN (
  SELECT * FROM unnest($1::text[], $2::text[])
  UNION
  (SELECT caller, key FROM kept_answers WHERE expires_at_ms <= $3 ORDER BY expires_at_ms LIMIT $4)
);

-- name: find_answer
SELECT caller, key, request, status, body, kept_at_ms, expires_at_ms FROM kept_answers WHERE caller = $1 AND key = $2;

-- name: upsert_tokens!
INSERT INTO tokens (id, kind, name, revoked_at_ms, record)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
ON CONFLICT (id) DO UPDATE SET revoked_at_ms = excluded.revoked_at_ms, record = excluded.record;

-- name: delete_tokens!
DELETE FROM tokens WHERE id = ANY ($1::text[]);

-- name: scan_tokens
SELECT record FROM tokens WHERE id > $1 ORDER BY id LIMIT $2;

-- name: insert_audit!
INSERT INTO audit (id, at_ms, record) SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]);

-- name: read_audit
SELECT record FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2;

-- name: trim_audit
WITH gone AS (
  DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at_ms < $1 ORDER BY at_ms, id LIMIT $2) RETURNING id
)
SELECT count(*) FROM gone;

-- name: scan_nodes
SELECT n.record, m.body FROM nodes AS n LEFT JOIN metas AS m ON m.hash = n.meta_hash
WHERE n.id > $1 ORDER BY n.id LIMIT $2;

-- name: scan_open_sessions
SELECT s.record, m.body FROM link_sessions AS s LEFT JOIN metas AS m ON m.hash = s.meta_hash
WHERE s.open AND s.id > $1 ORDER BY s.id LIMIT $2;

-- name: find_session
SELECT s.record, m.body FROM link_sessions AS s LEFT JOIN metas AS m ON m.hash = s.meta_hash WHERE s.session_id = $1;

-- name: get_session
SELECT s.record, m.body FROM link_sessions AS s LEFT JOIN metas AS m ON m.hash = s.meta_hash WHERE s.id = $1;

-- name: scan_groups
SELECT g.record, m.body FROM groups AS g LEFT JOIN metas AS m ON m.hash = g.meta_hash
WHERE g.id > $1 ORDER BY g.id LIMIT $2;

-- name: scan_presence
SELECT state FROM presence WHERE node_id > $1 ORDER BY node_id LIMIT $2;

-- name: scan_blocks
-- Those that compaction has taken and no start needs are gone, though their partition may still be there.
SELECT id, block FROM heartbeat_blocks
WHERE id > $1 AND id > (SELECT least(compacted_block, presence_block) FROM heartbeat_history CROSS JOIN checkpoint)
ORDER BY id LIMIT $2;

-- name: blocks_between
-- Newest first.
SELECT id, max_at_ms, block FROM heartbeat_blocks
WHERE max_at_ms >= $1 AND min_at_ms < $2 AND id > $3 AND id <= $4
ORDER BY max_at_ms DESC, id DESC;

-- name: blocks_of_ids
SELECT id, block FROM heartbeat_blocks WHERE id = ANY ($1::bigint[]) AND max_at_ms >= $2 AND min_at_ms < $3;

-- name: read_events
SELECT e.revision, e.id, e.name, e.at_ms, e.source, e.actor, e.subject, e.entity_kind, e.entity_id, e.correlation_id,
  e.causation_id, e.event_version, e.deleted, e.payload, m.body
FROM events AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash
WHERE e.revision > $1 AND e.revision < $2 ORDER BY e.revision LIMIT $3;

-- name: read_changes
-- All of them, which takes less than asking for the newest of each entity.
SELECT e.entity_id, e.entity_kind, e.deleted, e.payload, m.body, e.revision
FROM events AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash
WHERE e.revision > $1 AND e.revision <= $2 ORDER BY e.revision LIMIT $3;

-- name: read_entity
SELECT e.revision, e.id, e.name, e.at_ms, e.source, e.actor, e.subject, e.entity_kind, e.entity_id, e.correlation_id,
  e.causation_id, e.event_version, e.deleted, e.payload, m.body
FROM events AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash
WHERE e.entity_id = $1 AND e.revision > $2 AND e.revision <= $3 ORDER BY e.revision LIMIT $4;

-- name: read_entity_at
SELECT e.revision, e.id, e.name, e.at_ms, e.source, e.actor, e.subject, e.entity_kind, e.entity_id, e.correlation_id,
  e.causation_id, e.event_version, e.deleted, e.payload, m.body
FROM events AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash
WHERE e.entity_id = $1 AND e.revision <= $2 ORDER BY e.revision DESC LIMIT 1;

-- name: read_past
-- Steps from entity to entity along the index, however many events each has.
WITH RECURSIVE entities (id) AS (
  SELECT min(entity_id) FROM events WHERE entity_id > $1
  UNION ALL
  SELECT (SELECT min(entity_id) FROM events WHERE entity_id > entities.id) FROM entities WHERE entities.id IS NOT NULL
), newest AS MATERIALIZED (
  SELECT e.* FROM entities CROSS JOIN LATERAL (
    SELECT * FROM events WHERE entity_id = entities.id AND revision <= $2 ORDER BY revision DESC LIMIT 1
  ) AS e LIMIT $3
)
SELECT e.revision, e.id, e.name, e.at_ms, e.source, e.actor, e.subject, e.entity_kind, e.entity_id, e.correlation_id,
  e.causation_id, e.event_version, e.deleted, e.payload, m.body
FROM newest AS e LEFT JOIN metas AS m ON m.hash = e.meta_hash ORDER BY e.entity_id;

-- name: events_by_bin
SELECT (minute - $1) / $3, name, sum(events)::bigint FROM event_minutes
WHERE minute >= $1 AND minute < $2 GROUP BY 1, 2;

-- name: clock_steps
SELECT revision FROM clock_steps WHERE revision <= $1 ORDER BY revision DESC;

-- name: event_time
SELECT revision, at_ms FROM events WHERE revision >= $1 AND revision <= $2 ORDER BY revision LIMIT 1;

-- name: commit_end
SELECT commit_end FROM events WHERE revision = $1;

-- name: snapshot_below
SELECT revision FROM snapshots WHERE revision <= $1 AND revision >= $2 AND part = 0 ORDER BY revision DESC LIMIT 1;

-- name: snapshot_parts
SELECT body FROM snapshots WHERE revision = $1 ORDER BY part;

-- name: delete_snapshot!
DELETE FROM snapshots WHERE revision = $1;

-- name: insert_snapshot!
INSERT INTO snapshots (revision, part, body) VALUES ($1, $2, $3);

-- name: select_tail
SELECT oldest, compacted FROM log_tail WHERE id = 1 FOR UPDATE;

-- name: set_oldest!
UPDATE log_tail SET oldest = $1 WHERE id = 1 AND oldest <= $1;

-- name: set_compacted!
UPDATE log_tail SET compacted = $1 WHERE id = 1;

-- name: delete_event_minutes!
DELETE FROM event_minutes WHERE minute < (SELECT floor(at_ms / 60000.0)::bigint FROM events WHERE revision = $1);

-- name: delete_snapshots!
DELETE FROM snapshots WHERE (revision, part) IN (
  SELECT revision, part FROM snapshots WHERE revision < $1 ORDER BY revision, part LIMIT $2
);

-- name: delete_superseded!
-- What came before an event of the same entity. Each event is looked at once, as the one that came after. OFFSET 0: for
-- each of these events its index, never the whole log beside them, however many the planner believes them to be.
DELETE FROM events WHERE revision IN (
  SELECT earlier.revision FROM events AS e CROSS JOIN LATERAL (
    SELECT revision FROM events WHERE entity_id = e.entity_id AND revision < e.revision OFFSET 0
  ) AS earlier
  WHERE e.revision > $1 AND e.revision <= $2
);

-- name: delete_closed_sessions!
-- Those that were not opened again since: also not by a commit that ends only now, for which this waits.
DELETE FROM link_sessions WHERE NOT open AND id IN (
  SELECT e.entity_id FROM events AS e
  WHERE e.revision > $1 AND e.revision <= $2 AND e.name = 'cluster.link.closed' AND NOT EXISTS (
    SELECT FROM events AS later WHERE later.entity_id = e.entity_id AND later.revision > e.revision
  )
);

-- name: delete_ends!
-- After the end of an entity there is nothing to tell of it.
DELETE FROM events WHERE revision > $1 AND revision <= $2 AND (deleted OR name = 'cluster.link.closed');

-- name: insert_mark!
INSERT INTO log_marks (revision, age_ms) VALUES ($1, $2) ON CONFLICT (revision) DO NOTHING;

-- name: mark_below
SELECT revision, age_ms FROM log_marks WHERE revision <= $1 AND age_ms <= $2 ORDER BY revision DESC LIMIT 1;

-- name: delete_marks!
DELETE FROM log_marks WHERE revision < $1;

-- name: select_age_clock
SELECT now_ms, lead_ms, stood_ms FROM age_clock WHERE id = 1;

-- name: set_age_clock!
INSERT INTO age_clock (id, now_ms, lead_ms, stood_ms) VALUES (1, $1, $2, $3)
ON CONFLICT (id) DO UPDATE SET now_ms = excluded.now_ms, lead_ms = excluded.lead_ms, stood_ms = excluded.stood_ms;

-- name: add_partition
SELECT add_partition($1, $2, $3, $4);

-- name: drop_partitions
SELECT drop_partitions($1, $2, $3);

-- name: kept_minute
SELECT floor(extract(epoch FROM clock_timestamp()) / 60)::bigint;

-- name: has_blocks_before
-- Whether something may be dropped.
SELECT EXISTS (SELECT FROM partitions WHERE parent = 'heartbeat_blocks' AND high <= $1)
  OR EXISTS (SELECT FROM heartbeat_blocks_rest WHERE kept_minute < $1);

-- name: lock_blocks#
-- Until the end of the transaction nobody writes blocks. Whoever comes meanwhile waits for as long as this waits.
SET LOCAL lock_timeout = '50ms';
LOCK TABLE ONLY heartbeat_blocks IN SHARE MODE;

-- name: oldest_late
SELECT (SELECT min(minute) FROM heartbeat_minutes WHERE late) AS minutes,
  (SELECT min(minute) FROM heartbeat_rollups WHERE late) AS rollups;

-- name: oldest_needed_minute
SELECT min(kept_minute) FROM heartbeat_blocks
WHERE id > (SELECT least(compacted_block, presence_block) FROM heartbeat_history CROSS JOIN checkpoint);

-- name: select_history
SELECT compacted_block, pass_block, done_minute, done_key, raw_from, rollups_from FROM heartbeat_history WHERE id = 1;

-- name: lock_history
SELECT compacted_block, pass_block, done_minute, done_key, raw_from, rollups_from FROM heartbeat_history WHERE id = 1
FOR UPDATE;

-- name: set_compacted_block!
UPDATE heartbeat_history SET compacted_block = $1, pass_block = $1, done_minute = -9223372036854775808, done_key = ''
WHERE id = 1;

-- name: set_horizon!
UPDATE heartbeat_history SET raw_from = $1, rollups_from = $2 WHERE id = 1;

-- name: newest_block
SELECT max(id) FROM heartbeat_blocks;

-- name: blocks_to_compact
SELECT id, max_at_ms, beats FROM heartbeat_blocks WHERE id > $1 ORDER BY id LIMIT $2;

-- name: blocks_of_pass
SELECT id, block FROM heartbeat_blocks WHERE id > $1 AND id <= $2 ORDER BY id;

-- name: bytes_in_blocks
SELECT coalesce(sum(length(block)), 0)::bigint FROM heartbeat_blocks WHERE id > $1;

-- name: old_minutes
-- Minutes that may have rows already.
SELECT minute FROM heartbeat_sizes WHERE minute = ANY ($1::bigint[]);

-- name: delete_forgotten_minutes!
-- Rows that only wait for their partition to go are in the way of what comes late.
DELETE FROM heartbeat_minutes AS m USING unnest($1::bigint[], $2::bytea[]) AS place (minute, node_key)
WHERE m.minute = place.minute AND m.node_key = place.node_key AND m.minute < $3 AND NOT m.late;

-- name: delete_forgotten_rollups!
DELETE FROM heartbeat_rollups AS r USING unnest($1::bigint[], $2::bytea[]) AS place (minute, node_key)
WHERE r.minute = place.minute AND r.node_key = place.node_key AND r.minute < $3 AND NOT r.late;

-- name: select_places
-- Which of these there are, and the beats of those that have them.
SELECT r.minute, r.node_key, m.raw
FROM unnest($1::bigint[], $2::bytea[]) AS place (minute, node_key)
JOIN heartbeat_rollups AS r ON r.minute = place.minute AND r.node_key = place.node_key
LEFT JOIN heartbeat_minutes AS m ON m.minute = place.minute AND m.node_key = place.node_key;

-- name: upsert_minutes!
INSERT INTO heartbeat_minutes (minute, node_key, late, raw)
SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::boolean[], $4::bytea[])
ON CONFLICT (node_key, minute) DO UPDATE SET raw = excluded.raw;

-- name: merge_rollups!
INSERT INTO heartbeat_rollups AS r (
  minute, node_key, late, beats, worst, cpu_load_count, cpu_load_least, cpu_load_total, cpu_load_most,
  mem_used_mb_count, mem_used_mb_least, mem_used_mb_total, mem_used_mb_most, latency_ms_count, latency_ms_least,
  latency_ms_total, latency_ms_most
) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::boolean[], $4::bigint[], $5::smallint[], $6::bigint[],
  $7::double precision[], $8::double precision[], $9::double precision[], $10::bigint[], $11::double precision[],
  $12::double precision[], $13::double precision[], $14::bigint[], $15::double precision[], $16::double precision[],
  $17::double precision[])
ON CONFLICT (node_key, minute) DO UPDATE SET
  beats = r.beats + excluded.beats,
  worst = greatest(r.worst, excluded.worst),
  cpu_load_count = r.cpu_load_count + excluded.cpu_load_count,
  cpu_load_least = least(r.cpu_load_least, excluded.cpu_load_least),
  cpu_load_total = coalesce(r.cpu_load_total + excluded.cpu_load_total, r.cpu_load_total, excluded.cpu_load_total),
  cpu_load_most = greatest(r.cpu_load_most, excluded.cpu_load_most),
  mem_used_mb_count = r.mem_used_mb_count + excluded.mem_used_mb_count,
  mem_used_mb_least = least(r.mem_used_mb_least, excluded.mem_used_mb_least),
  mem_used_mb_total =
    coalesce(r.mem_used_mb_total + excluded.mem_used_mb_total, r.mem_used_mb_total, excluded.mem_used_mb_total),
  mem_used_mb_most = greatest(r.mem_used_mb_most, excluded.mem_used_mb_most),
  latency_ms_count = r.latency_ms_count + excluded.latency_ms_count,
  latency_ms_least = least(r.latency_ms_least, excluded.latency_ms_least),
  latency_ms_total =
    coalesce(r.latency_ms_total + excluded.latency_ms_total, r.latency_ms_total, excluded.latency_ms_total),
  latency_ms_most = greatest(r.latency_ms_most, excluded.latency_ms_most);

-- name: add_sizes!
INSERT INTO heartbeat_sizes AS s (minute, raw_bytes, rollup_bytes)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
ON CONFLICT (minute) DO UPDATE SET
  raw_bytes = s.raw_bytes + excluded.raw_bytes, rollup_bytes = s.rollup_bytes + excluded.rollup_bytes;

-- name: sum_sizes
SELECT coalesce(sum(raw_bytes + rollup_bytes), 0)::bigint FROM heartbeat_sizes;

-- name: has_old_minutes
SELECT EXISTS (SELECT FROM heartbeat_sizes WHERE minute < $1 AND raw_bytes > 0) AS raw,
  EXISTS (SELECT FROM heartbeat_sizes WHERE minute < $2) AS rollups;

-- name: newest_size
SELECT max(minute) FROM heartbeat_sizes;

-- name: minute_to_fit
-- The oldest minute that may stay for so many bytes to go, null where all that there is does not suffice.
SELECT minute FROM (
  SELECT minute, coalesce(sum(raw_bytes + rollup_bytes) OVER (
    ORDER BY minute ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ), 0) AS freed FROM heartbeat_sizes
) AS running WHERE freed >= $1 ORDER BY minute LIMIT 1;

-- name: forget_raw_sizes!
UPDATE heartbeat_sizes SET raw_bytes = 0 WHERE minute < $1 AND raw_bytes > 0;

-- name: forget_sizes!
DELETE FROM heartbeat_sizes WHERE minute < $1;

-- name: delete_late_minutes!
DELETE FROM heartbeat_minutes WHERE late AND minute < $1;

-- name: delete_late_rollups!
DELETE FROM heartbeat_rollups WHERE late AND minute < $1;

-- name: minutes_of_all
-- Of one minute.
SELECT node_key, raw FROM heartbeat_minutes WHERE minute = $1 AND (late OR minute >= $2) ORDER BY node_key DESC;

-- name: minute_before
-- The newest minute from $2 to $1 of which beats are kept; those before $3 are, where they came late.
SELECT greatest(
  (SELECT max(minute) FROM heartbeat_minutes WHERE minute <= $1 AND minute >= greatest($2::bigint, $3::bigint)),
  (SELECT max(minute) FROM heartbeat_minutes WHERE late AND minute <= $1 AND minute >= $2)
);

-- name: minutes_of_node
-- Newest first.
SELECT minute, raw FROM heartbeat_minutes
WHERE node_key = $1 AND minute >= $2 AND minute <= $3 AND (late OR minute >= $4) ORDER BY minute DESC;

-- name: rollups_of_node
-- Merged by buckets of $5 minutes, numbered from $2 on.
SELECT (minute - $2) / $5 AS bucket,
  sum(beats)::bigint, max(worst), sum(cpu_load_count)::bigint, min(cpu_load_least), sum(cpu_load_total),
  max(cpu_load_most), sum(mem_used_mb_count)::bigint, min(mem_used_mb_least), sum(mem_used_mb_total),
  max(mem_used_mb_most), sum(latency_ms_count)::bigint, min(latency_ms_least), sum(latency_ms_total),
  max(latency_ms_most)
FROM heartbeat_rollups
WHERE node_key = $1 AND minute >= $2 AND minute <= $3 AND (late OR minute >= $4) GROUP BY bucket;

-- name: rolled_up_only
-- Whether the node has a minute whose beats are not kept one by one.
SELECT 1 FROM heartbeat_rollups AS r
WHERE r.node_key = $1 AND r.minute >= $2 AND r.minute <= $3 AND (r.late OR r.minute >= $4) AND NOT EXISTS (
  SELECT FROM heartbeat_minutes AS m
  WHERE m.node_key = r.node_key AND m.minute = r.minute AND m.minute >= $2 AND m.minute <= $3
    AND (m.late OR m.minute >= $5)
) LIMIT 1;

-- name: upsert_documents!
INSERT INTO documents (shelf, key, body) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
ON CONFLICT (shelf, key) DO UPDATE SET body = excluded.body;

-- name: delete_documents!
DELETE FROM documents WHERE (shelf, key) IN (SELECT * FROM unnest($1::text[], $2::text[]));

-- name: scan_documents
SELECT shelf, key, body FROM documents WHERE shelf = $1 AND key > $2 ORDER BY key LIMIT $3;
