"""What Keras keeps private, or does not have, and the library needs."""
