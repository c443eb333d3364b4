"""What a plugin implements, and the border that checks what it returns."""
