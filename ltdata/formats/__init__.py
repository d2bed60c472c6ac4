"""Formats: how splits leave ltdata and come back."""
