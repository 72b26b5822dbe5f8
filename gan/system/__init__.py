"""Files, locks, the start of a program, and its commands in the shell of the user."""
