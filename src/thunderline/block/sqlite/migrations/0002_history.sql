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
