"""Mutation testing: whether the tests of the core notice when one thing in it is changed.

cosmic-ray makes the mutants; running them is ours. Its own runner begins a process for each, and a pytest that has
only to import what it needs takes longer than the tests that kill most of them. Here a process that has imported
pytest and hypothesis already is forked for each, in a copy of the project, and the tests are run in stages, those
first that are quick and deterministic. mutmut would not do: it calls every function through one of its own, and these
tests look at the code that runs, step by step.

`make mutants` runs it on the state machine and the pools; `make mutants ARGS=dbpool/state.py` on one file,
`ARGS=dbpool/state.py:120` on one line of it.
"""
