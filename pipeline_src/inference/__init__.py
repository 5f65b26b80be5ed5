"""A checkpoint in use: files, bytes and arrays to embeddings, classes and similarities."""
