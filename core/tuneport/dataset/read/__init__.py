"""Bytes to rows: files, streams, data frames and Python objects, format by format."""
