"""A network that was trained in half precision, in float32: what is measured and exported."""

import keras

_HALVES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")


def in_float32(model: keras.Layer) -> keras.Layer:
    """A copy that computes in float32, with the same weights; the model itself where it does.

    The configuration is taken through its round trip with every dtype policy replaced.

    Args:
        model: Built; one that can be saved as `.keras`.
    """
    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers()):
        return model
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # of what has none of its own
    try:
        # The model is there: what it is made of is trusted.
        copy = keras.saving.deserialize_keras_object(_replaced(config), safe_mode=False)
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def _replaced(config):
    if isinstance(config, list | tuple):
        return type(config)(map(_replaced, config))
    if not isinstance(config, dict):
        return "float32" if isinstance(config, str) and config in _HALVES else config
    return {key: _replaced(value) for key, value in config.items()}
