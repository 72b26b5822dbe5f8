"""The schema of a configuration, its checks, and how it is composed. Imports no torch."""
