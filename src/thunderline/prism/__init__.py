"""ThunderPrism: what the registry looks like from outside: metrics, alerts, service discovery."""
