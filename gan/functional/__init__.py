"""Training steps as functions of tensors by name: compiled, captured, of one run or of many."""
