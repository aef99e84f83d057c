"""The paper's networks as subclassed Keras models."""
