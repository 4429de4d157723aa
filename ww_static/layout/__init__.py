"""What each tensor is, and which matrices it holds: kinds, configurations, adapters, geometry."""
