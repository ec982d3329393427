"""Anything a person passes as an image, decoded safely, with one identity."""
