"""Loading and saving."""

# Configs of the model at hand are no stranger's: a `Lambda` in it may be made again.
# Since Keras 3.0. `keras.saving.load_model(…, safe_mode=False)` is public; the same for
# `from_config` would make this needless.
from keras.src.saving.serialization_lib import SafeModeScope

__all__ = ["SafeModeScope"]
