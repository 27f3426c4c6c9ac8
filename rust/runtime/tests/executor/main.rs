//! The executor from outside: whole prompts through `Executor::run`, seen by their events and outcome.
//!
//! Nodes are made of closures (`support`), so each test says what its classes do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod basics;
mod cache;
mod events;
mod flow;
mod follower;
mod foreign;
mod reference;
mod support;
mod tables;
