"""Training steps as functions of tensors by name: compiled, captured, for one run or for many."""
