"""Studies that are killed and otherwise disturbed."""
