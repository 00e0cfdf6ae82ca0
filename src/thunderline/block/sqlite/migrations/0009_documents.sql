-- What parts of the registry keep in forms of their own: alerts, silences, how far they were told, what could not be.
CREATE TABLE documents (
  shelf TEXT NOT NULL,
  key TEXT NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (shelf, key)
) STRICT, WITHOUT ROWID;
