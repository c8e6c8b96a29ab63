"""The state of a cluster at a revision, as a value: collected, compared, shown."""
