"""One file or package per outside thing, the only importer of its client library.

Nothing is imported here, so that importing one adapter costs only that one.
"""
