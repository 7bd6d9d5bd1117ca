"""Whether a contract fits recordings, and all in which it does not."""
