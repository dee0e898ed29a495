"""One file per outside thing, the only importer of its client library. Kept empty, so that importing one costs only that one."""
