"""Cohorts: many runs in one program, stacked or one after the other, whichever is faster."""
