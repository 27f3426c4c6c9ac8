//! The command line as a library, shared by the binary and the Python wheel.
