"""What a Trainer gets: exact resume, stops, predictions, a dummy model; and Lightning's insides."""
