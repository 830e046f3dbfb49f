"""The audit: what is promised about the future, checked on the data and settings at hand."""
