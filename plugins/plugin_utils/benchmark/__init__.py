"""What a benchmark of a user's app may do, and what its figures mean."""
