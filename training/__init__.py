"""From the shared data and our own requests to the classifier's weights."""
