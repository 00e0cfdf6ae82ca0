-- The schema as all migrations leave it; a test holds the two together. Everything stands in a schema of its own.
-- Times are milliseconds since 1970-01-01 UTC. Records are JSON without their `meta`, which stands once in `metas`.

CREATE TABLE migrations (
  version integer PRIMARY KEY,
  name text NOT NULL,
  sha256 text NOT NULL,
  applied_at_ms bigint NOT NULL
);

-- One row: which log this is and where it stands. A batch with events locks it first, so that the order of revisions is
-- the order of commits. `last_at_ms` is the time of the newest event.
CREATE TABLE log_head (
  id smallint PRIMARY KEY CHECK (id = 1),
  log_id text NOT NULL,
  revision bigint NOT NULL CHECK (revision >= 0),
  last_at_ms bigint
);

-- One row: where the log begins. Of the moments before `oldest`, what no later one needs is removed, and has been up to
-- and with `compacted`. Apart from the head, so that removing waits for no commit nor a commit for it.
CREATE TABLE log_tail (
  id smallint PRIMARY KEY CHECK (id = 1),
  oldest bigint NOT NULL CHECK (oldest >= 0),
  compacted bigint NOT NULL
);

-- One row: the newest block that the stored presences cover.
CREATE TABLE checkpoint (
  id smallint PRIMARY KEY CHECK (id = 1),
  presence_block bigint NOT NULL
);

-- Where the log stood at which age, by the clock of ages (link/ages.py); ages do not fall from one to the next.
CREATE TABLE log_marks (
  revision bigint PRIMARY KEY,
  age_ms bigint NOT NULL
);

-- Who writes, and the newest batch of each, to tell after a lost connection whether it was committed. Every commit
-- asserts the `epoch` that it was planned in: once the row has another holder, or its holder has begun anew over
-- another connection, nothing that is still under way can be written. A holder is gone when the session that has its
-- advisory lock is (`by_lock`), and else when its lease has run out.
CREATE TABLE writers (
  writer text PRIMARY KEY,
  holder text NOT NULL,
  epoch bigint NOT NULL,
  by_lock boolean NOT NULL,
  lease_until timestamptz NOT NULL,
  pid integer NOT NULL,
  host text NOT NULL,
  since timestamptz NOT NULL,
  batch_id text
);

CREATE TABLE metas (
  hash bytea PRIMARY KEY,
  body text NOT NULL
);

CREATE TABLE nodes (
  id text COLLATE "C" PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  revision bigint NOT NULL,
  record text NOT NULL,
  meta_hash bytea
);

CREATE TABLE link_sessions (
  id text COLLATE "C" PRIMARY KEY,
  session_id text COLLATE "C" NOT NULL UNIQUE,
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
  open boolean NOT NULL,
  record text NOT NULL,
  meta_hash bytea
);

CREATE INDEX link_sessions_of_node ON link_sessions (node_id);
CREATE INDEX link_sessions_open ON link_sessions (id) WHERE open;

-- Who is a member of which group stands in the nodes' own records.
CREATE TABLE groups (
  id text COLLATE "C" PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  revision bigint NOT NULL,
  record text NOT NULL,
  meta_hash bytea
);

CREATE TABLE events (
  revision bigint PRIMARY KEY,
  id text NOT NULL,
  name text NOT NULL,
  at_ms bigint NOT NULL,
  source text NOT NULL,
  actor text NOT NULL,
  subject text NOT NULL,
  entity_kind text NOT NULL,
  entity_id text COLLATE "C" NOT NULL,
  correlation_id text NOT NULL,
  causation_id text,
  event_version integer NOT NULL,
  deleted boolean NOT NULL,
  payload text NOT NULL,
  meta_hash bytea,
  commit_end bigint NOT NULL
);

-- The state of an entity at a revision is its newest event at or below it.
CREATE INDEX events_of_entity ON events (entity_id, revision);

-- The first event of each commit whose time is before that of the commit before: between two of them times do not fall.
CREATE TABLE clock_steps (
  revision bigint PRIMARY KEY
);

-- How many events of each name each minute since 1970 brought, so that a timeline is not counted out of the log.
CREATE TABLE event_minutes (
  minute bigint NOT NULL,
  name text COLLATE "C" NOT NULL,
  events bigint NOT NULL,
  PRIMARY KEY (minute, name)
);

-- A state in parts, packed by its reader (link/snapshots.py). Nothing is lost with them.
CREATE TABLE snapshots (
  revision bigint NOT NULL,
  part integer NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (revision, part)
);

CREATE TABLE presence (
  node_id text COLLATE "C" PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
  state bytea NOT NULL
);

-- Answers to requests that carried an `Idempotency-Key`, each written with what the request brought about.
CREATE TABLE kept_answers (
  caller text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  request bytea NOT NULL,
  status integer NOT NULL,
  body bytea NOT NULL,
  kept_at_ms bigint NOT NULL,
  expires_at_ms bigint NOT NULL,
  PRIMARY KEY (caller, key)
);

CREATE INDEX kept_answers_expiring ON kept_answers (expires_at_ms);

-- Who may call, as JSON, without secrets. What a revoked one was called may be taken again; a node has one credential.
CREATE TABLE tokens (
  id text COLLATE "C" PRIMARY KEY,
  kind text NOT NULL,
  name text COLLATE "C" NOT NULL,
  revoked_at_ms bigint,
  record text NOT NULL
);

CREATE UNIQUE INDEX tokens_named ON tokens (name) WHERE kind <> 'credential' AND revoked_at_ms IS NULL;
CREATE UNIQUE INDEX tokens_of_nodes ON tokens (name) WHERE kind = 'credential';

-- Who did or tried what, as JSON; an entry of a change is written with the change.
CREATE TABLE audit (
  id text COLLATE "C" PRIMARY KEY,
  at_ms bigint NOT NULL,
  record text NOT NULL
);

CREATE INDEX audit_at ON audit (at_ms, id);

-- What parts of the registry keep in forms of their own: alerts, silences, how far they were told, what could not be.
CREATE TABLE documents (
  shelf text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (shelf, key)
);

-- Heartbeats stand in partitions by time, which are made ahead (`add_partition`) and dropped as a whole
-- (`drop_partitions`): rows that come and go by the thousand leave no dead ones behind. What is of a time for which
-- there is none, since a clock was wrong, is in the `_rest`.

-- One row a commit: the beats of that commit, packed (block/beats.py). `kept_minute` is the database's own clock.
CREATE SEQUENCE heartbeat_block_ids;

CREATE TABLE heartbeat_blocks (
  kept_minute bigint NOT NULL DEFAULT floor(extract(epoch FROM clock_timestamp()) / 60),
  id bigint NOT NULL DEFAULT nextval('heartbeat_block_ids'),
  min_at_ms bigint NOT NULL,
  max_at_ms bigint NOT NULL,
  beats integer NOT NULL,
  block bytea NOT NULL,
  PRIMARY KEY (id, kept_minute)
) PARTITION BY RANGE (kept_minute);

CREATE INDEX heartbeat_blocks_at ON heartbeat_blocks (max_at_ms, min_at_ms);
CREATE TABLE heartbeat_blocks_rest PARTITION OF heartbeat_blocks DEFAULT;

-- What compaction makes of heartbeat_blocks: per minute since 1970 and node, the beats packed (block/rollups.py), and
-- a rollup, which is kept for longer. A minute's beats are there whole or not at all. A row before the horizon in
-- `heartbeat_history` is forgotten, and only waits for its partition to go, unless it came `late`: after the horizon
-- had passed it.
CREATE TABLE heartbeat_minutes (
  minute bigint NOT NULL,
  node_key bytea NOT NULL,
  late boolean NOT NULL,
  raw bytea NOT NULL,
  PRIMARY KEY (node_key, minute)
) PARTITION BY RANGE (minute);

CREATE INDEX heartbeat_minutes_in_time ON heartbeat_minutes (minute, node_key);
CREATE INDEX heartbeat_minutes_late ON heartbeat_minutes (minute) WHERE late;
CREATE TABLE heartbeat_minutes_rest PARTITION OF heartbeat_minutes DEFAULT;

CREATE TABLE heartbeat_rollups (
  minute bigint NOT NULL,
  node_key bytea NOT NULL,
  late boolean NOT NULL,
  beats bigint NOT NULL,
  worst smallint NOT NULL,
  cpu_load_count bigint NOT NULL,
  cpu_load_least double precision,
  cpu_load_total double precision,
  cpu_load_most double precision,
  mem_used_mb_count bigint NOT NULL,
  mem_used_mb_least double precision,
  mem_used_mb_total double precision,
  mem_used_mb_most double precision,
  latency_ms_count bigint NOT NULL,
  latency_ms_least double precision,
  latency_ms_total double precision,
  latency_ms_most double precision,
  PRIMARY KEY (node_key, minute)
) PARTITION BY RANGE (minute);

CREATE INDEX heartbeat_rollups_late ON heartbeat_rollups (minute) WHERE late;
CREATE TABLE heartbeat_rollups_rest PARTITION OF heartbeat_rollups DEFAULT;

-- About how many bytes the rows of each minute take that are not forgotten, and whether there are any.
CREATE TABLE heartbeat_sizes (
  minute bigint PRIMARY KEY,
  raw_bytes bigint NOT NULL,
  rollup_bytes bigint NOT NULL
);

-- One row. Every beat of the blocks up to `compacted_block` is in the tables above; of those after it up to
-- `pass_block`, the ones whose (minute, node_key) is at or before (done_minute, done_key), which is so only in what
-- was copied from an engine that compacts in slices. Before `raw_from` and `rollups_from` rows are forgotten.
CREATE TABLE heartbeat_history (
  id smallint PRIMARY KEY CHECK (id = 1),
  compacted_block bigint NOT NULL,
  pass_block bigint NOT NULL CHECK (pass_block >= compacted_block),
  done_minute bigint NOT NULL,
  done_key bytea NOT NULL,
  raw_from bigint NOT NULL,
  rollups_from bigint NOT NULL
);

-- One row once it first stood: the clock by which ages are measured (link/ages.py).
CREATE TABLE age_clock (
  id smallint PRIMARY KEY CHECK (id = 1),
  now_ms bigint NOT NULL,
  lead_ms bigint NOT NULL,
  stood_ms bigint NOT NULL
);

-- The partitions that there are, but for the `_rest`.
CREATE TABLE partitions (
  parent text NOT NULL,
  low bigint NOT NULL,
  high bigint NOT NULL,
  PRIMARY KEY (parent, low)
);

-- Both run with the rights of the schema's owner, so that a server needs no right to make or drop tables of its own
-- choice. They wait for nobody for longer than an instant: a lock that is queued for holds up whoever comes after it.

CREATE FUNCTION add_partition(of_table text, of_key text, from_low bigint, to_high bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = thunderline, pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
  child text := of_table || '_' || replace(from_low::text, '-', 'm');
  in_the_way boolean;
BEGIN
  IF (of_table, of_key) NOT IN (('heartbeat_blocks', 'kept_minute'), ('heartbeat_minutes', 'minute'),
                                ('heartbeat_rollups', 'minute')) THEN
    RAISE EXCEPTION 'no table in partitions: %', of_table;
  END IF;
  IF EXISTS (SELECT FROM partitions AS p WHERE p.parent = of_table AND p.low < to_high AND p.high > from_low) THEN
    RETURN false;
  END IF;
  EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE %I >= $1 AND %I < $2)', of_table || '_rest', of_key, of_key)
    INTO in_the_way USING from_low, to_high;
  IF in_the_way THEN
    RETURN false;
  END IF;
  -- Made beside and then attached, which other than making it in place lets others go on.
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', child, of_table);
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', of_table, child, from_low, to_high);
  INSERT INTO partitions (parent, low, high) VALUES (of_table, from_low, to_high);
  RETURN true;
END $$;

CREATE FUNCTION drop_partitions(of_table text, of_key text, before bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = thunderline, pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
  gone record;
  dropped integer := 0;
BEGIN
  IF (of_table, of_key) NOT IN (('heartbeat_blocks', 'kept_minute'), ('heartbeat_minutes', 'minute'),
                                ('heartbeat_rollups', 'minute')) THEN
    RAISE EXCEPTION 'no table in partitions: %', of_table;
  END IF;
  EXECUTE format('DELETE FROM %I WHERE %I < $1', of_table || '_rest', of_key) USING before;
  FOR gone IN DELETE FROM partitions AS p WHERE p.parent = of_table AND p.high <= before RETURNING p.low LOOP
    EXECUTE format('DROP TABLE %I', of_table || '_' || replace(gone.low::text, '-', 'm'));
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END $$;

REVOKE EXECUTE ON FUNCTION add_partition(text, text, bigint, bigint) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION drop_partitions(text, text, bigint) FROM PUBLIC;
