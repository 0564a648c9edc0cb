"""The compiler behind `generate.py`: protos -> message classes, codecs, service tables, descriptors."""
