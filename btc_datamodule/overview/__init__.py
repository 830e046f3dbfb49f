"""What there is to see of candles, stages and forecasts, as plain numbers that pictures draw."""
