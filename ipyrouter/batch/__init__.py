"""The same prompt over a column: rows to requests, a plan, many calls at once, and a frame of what came back."""
