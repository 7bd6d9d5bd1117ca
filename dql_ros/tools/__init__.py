"""What a bag holds, told from its messages without any contract.

Whether a contract fits recordings, and all in which it does not.
"""
