//! What nearly every family's file uses.

pub(crate) use candle_core::Tensor;
pub(crate) use rushlight_graph::{InputSpec, NodeSchema, OutputSpec};
pub(crate) use rushlight_runtime::{
    Host, Inputs, Latent, NodeContext, NodeError, NodeOutput, Registry, Value,
};
pub(crate) use serde_json::json;

pub(crate) use crate::define::{Define, add, add_saving};
pub(crate) use crate::picture::{Method, Pixels};
pub(crate) use crate::spec::*;
