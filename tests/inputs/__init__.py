"""Odd inputs, by their kinds: small generators, each with the right value beside it."""
