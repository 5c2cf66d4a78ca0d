"""Pools as others see them: for Prometheus, for OpenTelemetry. Each module needs the extra of its name."""
