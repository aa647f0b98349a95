"""What users write: frozen, inert values that fail where they are written."""
