"""MAViL (arXiv:2212.08071) and DiffMAViL (arXiv:2310.03937)."""
