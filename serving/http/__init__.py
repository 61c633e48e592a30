"""The HTTP interface: routes, what every request passes, and how errors are answered."""
