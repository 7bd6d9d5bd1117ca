"""What a bag holds, told from its messages without any contract."""
