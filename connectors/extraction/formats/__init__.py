"""One module per family of formats. Each function takes bytes or characters and returns text; none knows of files."""
