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
