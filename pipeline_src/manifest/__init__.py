"""What is to be done: data set descriptions, clip lists, chunks, and the manifest each stage leaves."""
