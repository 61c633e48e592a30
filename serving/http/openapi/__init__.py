"""The interface described for machines."""
