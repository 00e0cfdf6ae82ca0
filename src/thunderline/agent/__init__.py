"""What a machine runs to be a node: a link that beats with the machine's own figures."""
