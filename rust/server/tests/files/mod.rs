//! Routes that deal in files: one module a resource, and the hostile inputs in [`hostile`].

mod docs;
mod hostile;
mod models;
mod pages;
mod support;
mod system;
mod upload;
mod userdata;
mod view;
