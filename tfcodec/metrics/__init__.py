"""Quality metrics. Backbones of learned metrics are supplied by the user: tfcodec ships no third-party weights."""
