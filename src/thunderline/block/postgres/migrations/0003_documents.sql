-- What parts of the registry keep in forms of their own: alerts, silences, how far they were told, what could not be.
CREATE TABLE documents (
  shelf text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (shelf, key)
);
