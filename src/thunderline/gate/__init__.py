"""ThunderGate: the edge. What comes from the network is checked here, told to the registry, and answered."""
