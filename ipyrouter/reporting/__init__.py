"""What the log tells: the DataFrame, the daily report, the comparison with other ways of routing."""
