"""What a cell adds to its prompt: variables, attachments and the conversation."""
