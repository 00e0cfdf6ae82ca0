-- How many events of each name each minute since 1970 brought, so that a timeline is not counted out of the log.
CREATE TABLE event_minutes (
  minute INTEGER NOT NULL,
  name TEXT NOT NULL,
  events INTEGER NOT NULL,
  PRIMARY KEY (minute, name)
) STRICT, WITHOUT ROWID;

INSERT INTO event_minutes (minute, name, events)
SELECT at_ms / 60000, name, count(*) FROM events GROUP BY at_ms / 60000, name;
