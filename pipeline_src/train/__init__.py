"""One training loop for every method, for pre-training and fine-tuning."""
