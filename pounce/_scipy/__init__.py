"""SciPy's way of stating a problem, translated."""
