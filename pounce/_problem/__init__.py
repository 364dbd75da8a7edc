"""What is solved: nonlinear programs, their derivatives and their scaling."""
