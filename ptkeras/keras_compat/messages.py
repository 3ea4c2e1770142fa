"""Messages on standard output."""

# What Keras's own callbacks print with: it follows `keras.utils.disable_interactive_logging`, and
# does not break the progress bar of `fit`. Since Keras 3.0; an export would make this needless.
from keras.src.utils.io_utils import print_msg

__all__ = ["print_msg"]
