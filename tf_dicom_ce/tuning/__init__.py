"""Search for the settings of pretraining: keras-tuner proposes, a process of its own tries."""
