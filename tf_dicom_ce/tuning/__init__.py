"""Search for settings of pretraining: keras-tuner proposes them, a process of its own trains."""
