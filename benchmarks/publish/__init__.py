"""What makes tables and pictures of results."""
