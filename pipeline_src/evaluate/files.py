"""Names of the files that an evaluation writes beside each other."""

METRICS_FILE = "metrics.json"
SUMMARY_FILE = "summary.json"  # the few figures of it that ``dvc metrics show`` prints
PREDICTIONS_FILE = "predictions.npz"
EMBEDDINGS_FILE = "embeddings.npz"
RECONSTRUCTIONS_FILE = "reconstructions.npz"
RETRIEVAL_FILE = "retrieval.npz"
