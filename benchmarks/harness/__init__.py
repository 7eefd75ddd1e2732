"""What `run.py` and `report.py` are made of: measure, keep, summarise, judge, draw."""
