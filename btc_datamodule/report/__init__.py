"""The report: one HTML file in which all of a datamodule's data can be seen, without a network."""
