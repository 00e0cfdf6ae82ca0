"""ThunderBlock: persistence. The contract is `block/store.py`; each engine keeps it in a module of its own.

Engines are imported by the composition root and by tests alone; everyone else speaks to `Store`.
"""
