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
