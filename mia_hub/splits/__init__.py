"""Members and non-members: read, drawn, checked for a distribution shift, published."""
