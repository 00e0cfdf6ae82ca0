-- The log is forgotten from its beginning: events, snapshots and closed sessions from before `log_head.oldest`.

-- Up to and with this revision, below `oldest`, what nothing needs any more has been removed.
ALTER TABLE log_head ADD COLUMN compacted INTEGER NOT NULL DEFAULT 0;

-- Where the log stood at which age, by the clock of ages (link/ages.py); ages do not fall from one to the next.
CREATE TABLE log_marks (
  revision INTEGER PRIMARY KEY,
  age_ms INTEGER NOT NULL
) STRICT;
