"""The anynode program."""
