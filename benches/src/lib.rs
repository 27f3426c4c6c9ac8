//! What the benches share; the benches themselves are in `benches/` and `load/`, and `README.md` says how to run them.
//!
//! - [`chain`]: long chains of nodes, for what must be linear in the graph.

pub mod chain;
