"""ThunderFlow: events. What may be said (`taxonomy`), who hears it (`bus`), and how interest is written (`match`)."""
