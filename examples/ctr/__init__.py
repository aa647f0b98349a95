"""Click-through rate: which ad will be clicked."""
