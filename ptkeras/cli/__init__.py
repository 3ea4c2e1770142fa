"""The command line: flags, devices, and the run from its first step to its report."""
