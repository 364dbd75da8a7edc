"""KKT operators and the solvers that factorise them."""
