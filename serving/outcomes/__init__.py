"""How often are accepted answers wrong? Labels that come later, against the decisions that they are about."""
