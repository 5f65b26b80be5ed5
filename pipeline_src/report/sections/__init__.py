"""The sections of the page, each from records and files to blocks."""
