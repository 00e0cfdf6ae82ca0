"""ThunderLink: the life of nodes. Registry, domain actions, roster, liveness, commit pipeline."""
