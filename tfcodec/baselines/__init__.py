"""Codecs that tfcodec is measured against. Their files are formats of their own, no part of tfcodec's bitstream."""
