"""Two checkpoints or a series of them: tensors paired by name, measured, and put into rows."""
