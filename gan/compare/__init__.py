"""Reading many runs, ranking them and showing them side by side."""
