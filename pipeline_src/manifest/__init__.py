"""What is to be done: data sets, clip lists, chunks, and the manifest each stage leaves."""
