"""What a pool does with any sequence of events, compared at each step with a reference of plain lists."""
