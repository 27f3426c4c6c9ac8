//! Development commands as functions, so that tests can run the same checks.
//!
//! - [`check`]: everything that CI checks.
//! - `goldens`: numbers against the recorded ones (feature `goldens`).

pub mod check;
#[cfg(feature = "goldens")]
pub mod goldens;
