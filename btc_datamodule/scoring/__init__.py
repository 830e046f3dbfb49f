"""Scoring: how good forecasts are, beside baselines and on the same samples."""
