"""What several methods share: blocks, masks, contrast, reconstruction, weights."""
