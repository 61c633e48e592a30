"""What requests carry: bodies, queries, and who asks."""
