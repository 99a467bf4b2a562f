"""The runner behind `run_all.py`: the notebooks in order, into a run folder with an HTML report."""
