-- The past: where commits end, where the wall clock went back, and states kept so that others are soon made from them.

-- The last revision of the commit that wrote the event; null in commits of earlier versions.
ALTER TABLE events ADD COLUMN commit_end INTEGER;

-- The first event of each commit whose time is before that of the commit before: between two of them times do not fall.
CREATE TABLE clock_steps (
  revision INTEGER PRIMARY KEY
) STRICT;

-- Times are searched for by revision, within which they rise but for those steps.
DROP INDEX events_at;

INSERT INTO clock_steps (revision)
SELECT revision FROM (SELECT revision, at_ms, lag(at_ms) OVER (ORDER BY revision) AS before_ms FROM events)
WHERE at_ms < before_ms;

-- A state in parts, packed by its reader (link/snapshots.py). Nothing is lost with them.
CREATE TABLE snapshots (
  revision INTEGER NOT NULL,
  part INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (revision, part)
) STRICT;
