"""Logs and metrics set-up for programs; libraries set nothing up."""
