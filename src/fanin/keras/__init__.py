"""fanin for Keras 3: describe, write and probe models (`adapter`), train many runs at once (`trainer`).

The trainer works on Keras's JAX backend. Importing this package imports nothing of Keras; its modules do.
"""
