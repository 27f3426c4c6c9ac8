//! Development commands as functions, so that tests can run the same checks.

pub mod goldens;
