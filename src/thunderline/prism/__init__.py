"""ThunderPrism: what the registry looks like from outside: the dashboard, metrics, alerts, service discovery."""
