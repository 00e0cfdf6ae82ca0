"""Alerts: rules over what happens in the cluster and over the registry's own figures, and telling people of them.

Parts, each in its file: `rules` reads them from TOML; `conditions` says what an event of the log makes hold, or no
longer; `machine` makes alerts of that; `readings` looks at figures that are in no log; `alerting` runs it all beside a
registry; `outlets` and the sinks tell of it; `rehearsal` runs rules over the past.

The contract:

1. **Rules over the log are a function of the log.** What fires, and when (`starts_at`, `fired_at`, `resolved_at`),
   follows from the events and their times alone, however late they were judged: a restart, a slow loop or a rehearsal
   over the past come to the same alerts. Rules over figures (`FIGURES` in `rules`) are judged as they are read, and
   are not rehearsed.
2. **Life.** A rule that begins to hold is pending for `for`; then it fires, unless it is held back; when it no longer
   holds, for `keep` where that is set, it is resolved. One alert of an id fires at a time; its labels stay meanwhile.
3. **Ids.** An alert's id is the fingerprint of its rule and labels. What is told has the id
   `<alert>-<fired_at>-<state>`: the same on every attempt, over every sink.
4. **Many are one.** Where more than `group_above` cases of a rule hold in one place (the node's nearest zone, else
   region, else `everything`) when one of them is due, one alert for the place fires; whoever follows joins it. Down
   to half of that it is resolved, and who is left is due once more.
5. **Held back.** While the guard is engaged in a place, no node of it is told as offline; while a node flaps, neither
   its fall nor its return is. Both are judged again when that ends.
6. **Nothing is told of our own absence.** What was due between the last event before a start of the registry and that
   start, or within `after_start` of it, is due only then.
7. **Restarts.** An alert, its event and the place up to which the log was judged are one commit. Whoever starts again
   goes on from that place, with the state as of it.
8. **Telling** is at least once, in the order of the log, each sink on its own; a silenced alert is told when the
   silence ends if it still fires, and its end only if its beginning was told. What a sink refuses, or does not take
   in `attempts_max` attempts, is kept as a dead letter.
9. **While the store is away** nothing of the log is judged. That it is away is itself told, at once and outside of
   the log; the event follows when it is back.
"""
