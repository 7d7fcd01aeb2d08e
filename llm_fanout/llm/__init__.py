"""Prompts in, Results out."""
