"""Results of many runs become tables, figures and a page: `python -m experiments.report RESULTS... --out FOLDER`."""
