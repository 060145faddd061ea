"""The log: as a DataFrame, as a report, and compared with other ways of routing."""
