-- Groups of nodes. Who is a member of which stands in the nodes' own records.
CREATE TABLE groups (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  revision INTEGER NOT NULL,
  record TEXT NOT NULL,
  meta_hash BLOB REFERENCES metas (hash)
) STRICT, WITHOUT ROWID;
