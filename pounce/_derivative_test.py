def run_derivative_test(functions, start, options):
    pass
