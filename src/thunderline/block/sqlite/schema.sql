-- The schema as all migrations leave it; a test holds the two together.
-- Times are milliseconds since 1970-01-01 UTC. Records are JSON without their `meta`, which stands once in `metas`.

CREATE TABLE migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  applied_at_ms INTEGER NOT NULL
) STRICT;

-- One row: which log this is, where it stands, and where it begins: of the moments before `oldest`, what no later one
-- needs is removed, and has been up to and with `compacted`.
CREATE TABLE log_head (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  log_id TEXT NOT NULL,
  revision INTEGER NOT NULL CHECK (revision >= 0),
  oldest INTEGER NOT NULL CHECK (oldest >= 0),
  presence_block INTEGER NOT NULL,
  compacted INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Where the log stood at which age, by the clock of ages (link/ages.py); ages do not fall from one to the next.
CREATE TABLE log_marks (
  revision INTEGER PRIMARY KEY,
  age_ms INTEGER NOT NULL
) STRICT;

-- The newest batch of each writer, to tell after a lost connection whether it was committed.
CREATE TABLE writers (
  writer TEXT PRIMARY KEY,
  batch_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE metas (
  hash BLOB PRIMARY KEY,
  body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  revision INTEGER NOT NULL,
  record TEXT NOT NULL,
  meta_hash BLOB REFERENCES metas (hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE link_sessions (
  id TEXT PRIMARY KEY,
  session_id TEXT NOT NULL UNIQUE,
  node_id TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
  open INTEGER NOT NULL CHECK (open IN (0, 1)),
  record TEXT NOT NULL,
  meta_hash BLOB REFERENCES metas (hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX link_sessions_of_node ON link_sessions (node_id);
CREATE INDEX link_sessions_open ON link_sessions (id) WHERE open = 1;

CREATE TABLE events (
  revision INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  source TEXT NOT NULL,
  actor TEXT NOT NULL,
  subject TEXT NOT NULL,
  entity_kind TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  causation_id TEXT,
  event_version INTEGER NOT NULL,
  deleted INTEGER NOT NULL CHECK (deleted IN (0, 1)),
  payload TEXT NOT NULL,
  meta_hash BLOB REFERENCES metas (hash),
  commit_end INTEGER
) STRICT;

-- The state of an entity at a revision is its newest event at or below it.
CREATE INDEX events_of_entity ON events (entity_id, revision);

-- The first event of each commit whose time is before that of the commit before: between two of them times do not fall.
CREATE TABLE clock_steps (
  revision INTEGER PRIMARY KEY
) STRICT;

-- How many events of each name each minute since 1970 brought, so that a timeline is not counted out of the log.
CREATE TABLE event_minutes (
  minute INTEGER NOT NULL,
  name TEXT NOT NULL,
  events INTEGER NOT NULL,
  PRIMARY KEY (minute, name)
) STRICT, WITHOUT ROWID;

-- A state in parts, packed by its reader (link/snapshots.py). Nothing is lost with them.
CREATE TABLE snapshots (
  revision INTEGER NOT NULL,
  part INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (revision, part)
) STRICT;

-- One row a commit: the beats of that commit, packed (block/beats.py).
CREATE TABLE heartbeat_blocks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  min_at_ms INTEGER NOT NULL,
  max_at_ms INTEGER NOT NULL,
  beats INTEGER NOT NULL,
  block BLOB NOT NULL
) STRICT;

CREATE INDEX heartbeat_blocks_at ON heartbeat_blocks (max_at_ms, min_at_ms);

CREATE TABLE presence (
  node_id TEXT PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
  state BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What compaction makes of heartbeat_blocks: per minute since 1970 and node, the beats packed (block/rollups.py), and
-- a rollup, which is kept for longer. Both are in the order of time, so that growing and forgetting touch whole pages
-- at either end, whatever lies in between. A minute's beats are there whole or not at all.
CREATE TABLE heartbeat_minutes (
  minute INTEGER NOT NULL,
  node_key BLOB NOT NULL,
  raw BLOB NOT NULL,
  PRIMARY KEY (minute, node_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE heartbeat_rollups (
  minute INTEGER NOT NULL,
  node_key BLOB NOT NULL,
  beats INTEGER NOT NULL,
  worst INTEGER NOT NULL,
  cpu_load_count INTEGER NOT NULL,
  cpu_load_least REAL,
  cpu_load_total REAL,
  cpu_load_most REAL,
  mem_used_mb_count INTEGER NOT NULL,
  mem_used_mb_least REAL,
  mem_used_mb_total REAL,
  mem_used_mb_most REAL,
  latency_ms_count INTEGER NOT NULL,
  latency_ms_least REAL,
  latency_ms_total REAL,
  latency_ms_most REAL,
  PRIMARY KEY (minute, node_key)
) STRICT, WITHOUT ROWID;

-- One row. `step` counts its changes, so that a step planned on another state cannot be written. Every beat of the
-- blocks up to `compacted_block` is in the tables above; of those after it up to `pass_block`, the ones whose (minute,
-- node_key) is at or before (done_minute, done_key). `bytes` is about what both tables hold. The rest is the clock by
-- which ages are measured (link/history.py), null until it first stood.
CREATE TABLE heartbeat_history (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  step INTEGER NOT NULL,
  compacted_block INTEGER NOT NULL,
  pass_block INTEGER NOT NULL CHECK (pass_block >= compacted_block),
  done_minute INTEGER NOT NULL,
  done_key BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  clock_ms INTEGER,
  lead_ms INTEGER,
  stood_ms INTEGER
) STRICT;

-- Who is a member of which group stands in the nodes' own records.
CREATE TABLE groups (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  revision INTEGER NOT NULL,
  record TEXT NOT NULL,
  meta_hash BLOB REFERENCES metas (hash)
) STRICT, WITHOUT ROWID;

-- Answers to requests that carried an `Idempotency-Key`, each written with what the request brought about.
CREATE TABLE kept_answers (
  id INTEGER PRIMARY KEY,
  caller TEXT NOT NULL,
  key TEXT NOT NULL,
  request BLOB NOT NULL,
  status INTEGER NOT NULL,
  body BLOB NOT NULL,
  kept_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  UNIQUE (caller, key)
) STRICT;

CREATE INDEX kept_answers_expiring ON kept_answers (expires_at_ms);

-- Who may call, as JSON, without secrets. What a revoked one was called may be taken again; a node has one credential.
CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  revoked_at_ms INTEGER,
  record TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX tokens_named ON tokens (name) WHERE kind <> 'credential' AND revoked_at_ms IS NULL;
CREATE UNIQUE INDEX tokens_of_nodes ON tokens (name) WHERE kind = 'credential';

-- Who did or tried what, as JSON; an entry of a change is written with the change.
CREATE TABLE audit (
  id TEXT PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  record TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_at ON audit (at_ms, id);

-- What parts of the registry keep in forms of their own: alerts, silences, how far they were told, what could not be.
CREATE TABLE documents (
  shelf TEXT NOT NULL,
  key TEXT NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (shelf, key)
) STRICT, WITHOUT ROWID;
