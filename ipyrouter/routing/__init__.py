"""From a prompt to an answer: planner, single-flight, chain, breaker, budget, validation, recorder."""
