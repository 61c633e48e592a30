"""What runs an exported graph: the interface, and one small file an engine."""
