"""The demonstration of `make demo`: trained, evaluated, and handed to the plots as JSON."""
