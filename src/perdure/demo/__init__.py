"""The demonstration: a pipeline over real source code, with the accidents that a job system must survive."""
