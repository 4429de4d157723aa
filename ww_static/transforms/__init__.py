"""Models written anew: smooth and sharpen, their plan, their counts, the file."""
