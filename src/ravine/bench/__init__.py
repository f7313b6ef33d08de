"""Many runs: one process per configuration, so that no run's crash, memory or threads touch another's result."""
