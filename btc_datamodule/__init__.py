"""Bitcoin candles as training windows that never show the future."""
