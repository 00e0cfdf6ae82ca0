"""The link protocol: frames, their encodings, and the state of either end; no I/O."""
