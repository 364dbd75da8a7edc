"""Compiler options of programs whose rounding errors are tested: LLVM optimises them, as for users, whatever `conftest` chose."""

OPTIMIZED = {"xla_backend_optimization_level": 3}
