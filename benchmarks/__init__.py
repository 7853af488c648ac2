"""Speed, memory and their growth, one program each: `python -m benchmarks.engine --help`. None of them is a test."""
