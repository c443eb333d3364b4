"""What a check can find: codes, findings and diagnostics. Every other part of the room reports through it."""
