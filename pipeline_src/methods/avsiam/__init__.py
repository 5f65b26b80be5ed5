"""AVSiam (arXiv:2403.19638)."""
