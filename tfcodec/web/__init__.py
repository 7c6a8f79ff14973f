"""Streams in a browser: the module that decodes them (``module/``), a page with it (``page/``), what serves it."""
