"""The interior-point method for nonlinear programs."""
