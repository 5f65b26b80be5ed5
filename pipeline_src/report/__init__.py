"""The report: files that earlier stages wrote, turned into one page. Loads no torch."""
