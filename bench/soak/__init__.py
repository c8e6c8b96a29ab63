"""Does anything grow, drift or get lost while a cluster lives? See ``bench.soak.__main__``."""
