"""The control plane: connections, what is declared on the broker, and the management API."""
