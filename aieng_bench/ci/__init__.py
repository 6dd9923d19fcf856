"""Two commits of a repository measured in one run: each in its own checkout, their contenders in the same interleaved rounds."""
