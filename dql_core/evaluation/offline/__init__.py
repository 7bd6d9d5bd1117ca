"""What policies are worth, judged by recorded episodes alone: nothing moves."""
