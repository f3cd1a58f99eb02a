"""The sources that come with the project, one module or package each."""
