"""What takes many battles or many runs, one program each: `python -m experiments.calibrate --help`."""
