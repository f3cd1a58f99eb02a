"""One sync job: the path of a document from the source to its acknowledged write."""
