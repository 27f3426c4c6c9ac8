//! What a running node sees of its run.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use candle_core::Device;
use indexmap::IndexMap;
use parking_lot::Mutex;
use rushlight_protocol::{
    Audience, BinaryFrame, Event, ImageFormat, NodeProgress, NodeState, PreviewMetadata,
};
use serde_json::Number;

use crate::error::NodeError;
use crate::follower::{Preview, RunFollower};
use crate::host::Host;
use crate::placement::Placement;
use crate::value::Value;

/// Takes events; never waits for a socket. Called from any thread.
pub trait EventSink: Send + Sync {
    /// Hands an event on.
    fn send(&self, to: &Audience, event: Event);
}

/// Set once to end a run at its next check.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Ends the run at its next check.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the run is to end.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Fails if the run is to end.
    ///
    /// # Errors
    /// [`NodeError::Interrupted`].
    pub fn check(&self) -> Result<(), NodeError> {
        if self.is_cancelled() { Err(NodeError::Interrupted) } else { Ok(()) }
    }
}

/// How step previews are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PreviewMethod {
    /// No previews.
    #[default]
    None,
    /// A linear map from latent channels to colours.
    Latent2Rgb,
    /// A small decoder.
    Taesd,
}

/// Which node is running, under each of its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Id in the expanded graph.
    pub node_id: Arc<str>,
    /// The id a frontend shows.
    pub display_id: Arc<str>,
    /// The node that expanded into this one.
    pub parent_id: Option<Arc<str>>,
    /// The outermost node.
    pub real_id: Arc<str>,
    /// Class name.
    pub class_type: Arc<str>,
}

/// One run of one prompt: shared by all its nodes and by threads they start.
pub struct RunContext {
    /// The prompt.
    pub prompt_id: Arc<str>,
    /// Who gets its events.
    pub audience: Audience,
    /// Files and models.
    pub host: Arc<dyn Host>,
    /// Where events go.
    pub sink: Arc<dyn EventSink>,
    /// Ends the run.
    pub cancel: CancelToken,
    /// Where tensors live.
    pub device: Device,
    /// Step previews.
    pub preview_method: PreviewMethod,
    /// Previews fit in a square of this many pixels.
    pub preview_size: u32,
    /// Which nodes run in Python although they could run natively.
    pub placement: Placement,
    /// Who hears of the run beside its clients.
    pub follower: Option<Arc<dyn RunFollower>>,
    progress: Mutex<Progress>,
    /// Hidden values by kind that some node shares with those after it.
    shared: Mutex<HashMap<Arc<str>, Value>>,
}

/// Nodes that a run may have begun before `progress_state` is sent less often: it lists all of them each time, so a
/// run of thousands of nodes would else cost the square of their number.
const MANY_NODES: usize = 256;
/// How often `progress_state` is sent in such a run.
const MANY_NODES_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Progress {
    /// Every node that has begun, in that order.
    nodes: IndexMap<Arc<str>, NodeProgress>,
    /// When `progress_state` was sent last.
    sent: Option<Instant>,
    /// Something changed since.
    unsent: bool,
}

impl Progress {
    fn event(&mut self, prompt_id: &Arc<str>) -> Event {
        self.sent = Some(Instant::now());
        self.unsent = false;
        Event::ProgressState { prompt_id: prompt_id.clone(), nodes: self.nodes.clone() }
    }

    fn is_due(&self) -> bool {
        self.nodes.len() <= MANY_NODES || self.sent.is_none_or(|sent| sent.elapsed() >= MANY_NODES_INTERVAL)
    }
}

impl RunContext {
    /// A run that has not begun. Previews are off and 512 pixels wide until set.
    pub fn new(
        prompt_id: Arc<str>,
        audience: Audience,
        host: Arc<dyn Host>,
        sink: Arc<dyn EventSink>,
        device: Device,
    ) -> Self {
        Self {
            prompt_id,
            audience,
            host,
            sink,
            cancel: CancelToken::default(),
            device,
            preview_method: PreviewMethod::None,
            preview_size: 512,
            placement: Placement::default(),
            follower: None,
            progress: Mutex::default(),
            shared: Mutex::default(),
        }
    }

    /// The value of a hidden input (`PROMPT`, `EXTRA_PNGINFO`) that a node of this run has put in the place of the
    /// submitted one: all nodes after it see what it writes there.
    pub fn shared(&self, kind: &str) -> Option<Value> {
        self.shared.lock().get(kind).cloned()
    }

    /// Shares a hidden value with the nodes that run later. The first value stays; returns it.
    pub fn share(&self, kind: &str, value: Value) -> Value {
        self.shared.lock().entry(kind.into()).or_insert(value).clone()
    }

    /// Sends an event to the prompt's session.
    pub fn emit(&self, event: Event) {
        self.sink.send(&self.audience, event);
    }

    /// Records a node's progress and tells `progress_state`. `None` keeps the last `value`/`max`; a finished
    /// node's value becomes its max. In a run of very many nodes it is told at intervals, see
    /// [`RunContext::flush_progress`].
    pub fn report(&self, node: &NodeIdentity, state: NodeState, bar: Option<(Number, Number)>) {
        self.record(node, state, bar, None);
    }

    fn record(
        &self,
        node: &NodeIdentity,
        state: NodeState,
        bar: Option<(Number, Number)>,
        preview: Preview<'_>,
    ) {
        let moved = bar.is_some();
        let mut progress = self.progress.lock();
        let entry = progress.nodes.entry(node.node_id.clone()).or_insert_with(|| NodeProgress {
            value: float_number(0.0),
            max: float_number(1.0),
            state,
            node_id: node.node_id.clone(),
            prompt_id: self.prompt_id.clone(),
            display_node_id: node.display_id.clone(),
            parent_node_id: node.parent_id.clone(),
            real_node_id: node.real_id.clone(),
        });
        entry.state = state;
        if let Some((value, max)) = bar {
            entry.value = value;
            entry.max = max;
        }
        if state == NodeState::Finished {
            entry.value = entry.max.clone();
        }
        let entry = self.follower.is_some().then(|| entry.clone());
        progress.unsent = true;
        let event = progress.is_due().then(|| progress.event(&self.prompt_id));
        drop(progress);
        event.into_iter().for_each(|event| self.emit(event));
        if let (Some(follower), Some(entry)) = (&self.follower, entry) {
            follower.progressed(&entry, moved, preview);
        }
    }

    /// Every node that has begun, in that order.
    pub fn nodes(&self) -> IndexMap<Arc<str>, NodeProgress> {
        self.progress.lock().nodes.clone()
    }

    /// Sends a `progress_state` that was held back, before the run ends.
    pub fn flush_progress(&self) {
        let event = {
            let mut progress = self.progress.lock();
            progress.unsent.then(|| progress.event(&self.prompt_id))
        };
        event.into_iter().for_each(|event| self.emit(event));
    }
}

/// A JSON float; 0 for a value that JSON cannot hold.
pub fn float_number(value: f64) -> Number {
    Number::from_f64(value).unwrap_or_else(|| Number::from(0))
}

/// State that a node keeps between its runs: one slot a (node id, class).
pub type StateSlot = Arc<Mutex<Option<Box<dyn Any + Send>>>>;

/// What one running node sees. Cheap to clone; may be kept by threads after the node ended.
#[derive(Clone)]
pub struct NodeContext {
    /// The run.
    pub run: Arc<RunContext>,
    /// Which node this is.
    pub node: Arc<NodeIdentity>,
    /// Index of this call, when the node is called for each of a list.
    pub list_index: Option<usize>,
    /// Lives as long as prompts use the node.
    pub state: StateSlot,
}

impl NodeContext {
    /// Fails if the run is to end.
    ///
    /// # Errors
    /// [`NodeError::Interrupted`].
    pub fn check(&self) -> Result<(), NodeError> {
        self.run.cancel.check()
    }

    /// Files and models.
    pub fn host(&self) -> &dyn Host {
        self.run.host.as_ref()
    }

    /// Where tensors live.
    pub fn device(&self) -> &Device {
        &self.run.device
    }

    /// Tells that the node has its turn.
    pub fn begin(&self) {
        if let Some(follower) = &self.run.follower {
            follower.node_begins(self);
        }
        self.run.report(&self.node, NodeState::Running, None);
    }

    /// Moves the node's progress bar: `progress_state`, `progress`, then the preview if there is one.
    ///
    /// # Errors
    /// [`NodeError::Interrupted`] when the run is to end.
    pub fn progress(
        &self,
        value: u64,
        max: u64,
        preview: Option<(ImageFormat, Bytes)>,
    ) -> Result<(), NodeError> {
        self.check()?;
        let told = match &self.run.follower {
            Some(follower) => follower.moves_bar(self, (value, max), preview.as_ref())?,
            None => false,
        };
        if !told {
            self.progress_numbers(value.into(), max.into(), preview);
        }
        Ok(())
    }

    /// As [`NodeContext::progress`], with numbers as a Python node gave them, without the interrupt check and without
    /// asking [`RunFollower::moves_bar`].
    pub fn progress_numbers(&self, value: Number, max: Number, preview: Option<(ImageFormat, Bytes)>) {
        let bar = Some((value.clone(), max.clone()));
        self.run.record(&self.node, NodeState::Running, bar, preview.as_ref());
        self.run.emit(Event::Progress {
            value,
            max,
            prompt_id: self.run.prompt_id.clone(),
            node: self.node.node_id.clone(),
        });
        if let Some((format, image)) = preview {
            self.run.emit(Event::Binary(BinaryFrame::Preview {
                format,
                image,
                metadata: Some(self.preview_metadata()),
            }));
        }
    }

    /// Sends progress text of this node.
    pub fn progress_text(&self, text: &str) {
        self.run.emit(Event::Binary(BinaryFrame::Text {
            prompt_id: self.run.prompt_id.clone(),
            node_id: self.node.node_id.clone(),
            text: text.into(),
        }));
    }

    fn preview_metadata(&self) -> Arc<PreviewMetadata> {
        Arc::new(PreviewMetadata {
            node_id: self.node.node_id.clone(),
            prompt_id: self.run.prompt_id.clone(),
            display_node_id: self.node.display_id.clone(),
            parent_node_id: self.node.parent_id.clone(),
            real_node_id: self.node.real_id.clone(),
        })
    }
}
