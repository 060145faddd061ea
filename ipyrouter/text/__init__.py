"""Plain strings, without a model or a notebook: sanitising, redaction, code and JSON, tables, amounts."""
