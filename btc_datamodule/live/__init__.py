"""Forecasts of new bars as they close: waiting, updating, predicting and writing them down."""
