"""A suite for the engine's tests: small, quick, and full of contenders that misbehave."""
