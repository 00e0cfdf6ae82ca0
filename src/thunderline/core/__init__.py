"""core: what every domain speaks: errors, clock, ids, records, settings, tasks, logging. Imports nothing of ours."""
