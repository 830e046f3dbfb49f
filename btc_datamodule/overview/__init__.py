"""What there is to see, as plain numbers: for pictures, for the report, for a look of one's own."""
