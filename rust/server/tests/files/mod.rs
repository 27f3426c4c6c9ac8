//! Routes that deal in files: one module a resource, and the hostile inputs in [`hostile`].
// A test's helpers fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod docs;
mod hostile;
mod models;
mod pages;
mod support;
mod system;
mod upload;
mod userdata;
mod view;
