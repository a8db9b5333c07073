"""Data in, trained networks out; settings load nothing, so that a command line can show them at once."""

from dwalign.lazy import lazily

__getattr__, __dir__ = lazily(__name__, __file__)
