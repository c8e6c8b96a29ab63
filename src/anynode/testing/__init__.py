"""Shipped test doubles and conformance suites for storage engines, providers and transports."""
