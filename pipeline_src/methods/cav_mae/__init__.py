"""CAV-MAE (arXiv:2210.07839)."""
