"""Pure rules: values in, values out. No clock, no I/O, no logging; time comes in as an argument."""
