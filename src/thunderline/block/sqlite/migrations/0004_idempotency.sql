-- The answers to requests that carried an `Idempotency-Key`, each written with what the request brought about.

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
