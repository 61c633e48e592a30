"""What the service is measured against: the same work, by the shortest honest program in each framework."""
