"""Streams in a browser: the module that decodes them, in ``module/``, a page with it, in ``page/``, what serves that."""
