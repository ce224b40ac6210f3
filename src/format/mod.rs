//! Pure bytes: layout of object files, header, tag pages, sidecar records, log records. No I/O and no keys.
