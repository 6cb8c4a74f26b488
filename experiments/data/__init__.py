"""Data that several programs use: rendered shapes, audio, tables of known factors."""
