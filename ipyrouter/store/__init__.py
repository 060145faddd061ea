"""Where answers, costs and cached completions last. Nothing outside this folder knows SQL."""
