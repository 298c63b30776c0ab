"""Look at the dead letters of a service, send them back, or drop them."""
