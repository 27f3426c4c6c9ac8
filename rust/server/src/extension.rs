//! What an extension of the server (the Python bridge) and the running server ask of each other.
//!
//! The server knows nothing of Python: it starts an [`Extension`] when its socket is open, and the extension
//! works through an [`Application`]. No method of either waits for a socket.

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use rushlight_protocol::{NodeErrors, PromptAccepted, PromptRejected, QueueItem};
use rushlight_runtime::{EventSink, Host, Node, Registry, RunFollower};
use serde_json::{Map, Value};

/// Something that adds classes, routes and files to a server.
pub trait Extension: Send + Sync {
    /// Loads everything. Called once, on a thread of its own, when the socket is open; requests that need to know
    /// every class (`/object_info`, `POST /prompt`) and the workers wait until it returns.
    fn start(&self, app: Arc<dyn Application>);

    /// Changes a submitted `POST /prompt` body before it is validated. May block: never called on an async thread.
    fn on_prompt(&self, body: Value) -> Value {
        body
    }

    /// Whether [`Extension::on_prompt`] would do anything.
    fn changes_prompts(&self) -> bool {
        false
    }

    /// Where requests go whose route the server does not know; `None` while there is nobody.
    fn forward_to(&self) -> Option<ForwardTarget> {
        None
    }

    /// Brings what it shares with the server (model folders) up to date. Called before `/object_info` is made and
    /// before a prompt with classes of the extension is checked; may block.
    fn refresh(&self) {}

    /// Loaded packs of nodes.
    fn packs(&self) -> Vec<Pack> {
        Vec::new()
    }

    /// Who hears of each run beside its clients.
    fn follower(&self) -> Option<Arc<dyn RunFollower>> {
        None
    }

    /// A prompt has ended: its outputs are in the history.
    fn run_ended(&self, _prompt_id: &str) {}

    /// `POST /free` was asked for.
    fn free(&self, _unload_models: bool, _free_memory: bool) {}

    /// Versions for `/system_stats`: `python_version`, `pytorch_version`.
    fn versions(&self) -> Map<String, Value> {
        Map::new()
    }

    /// The server stops; its sockets are closed already.
    fn stop(&self) {}
}

/// An HTTP server on this machine that takes forwarded requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardTarget {
    /// Where it listens.
    pub address: ForwardAddress,
    /// Value of the header [`FORWARD_SECRET_HEADER`]; it refuses requests without it.
    pub secret: String,
}

/// Address of a [`ForwardTarget`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port on 127.0.0.1.
    Loopback(u16),
}

/// Header that proves to a [`ForwardTarget`] that the request comes from this server.
pub const FORWARD_SECRET_HEADER: &str = "x-rushlight-forward";

/// One pack of nodes (a folder or file in `custom_nodes`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pack {
    /// Name, as in `/extensions/NAME/…` and `/workflow_templates`.
    pub name: String,
    /// Its folder or file.
    pub path: PathBuf,
    /// Folder served under `/extensions/NAME/`.
    pub web: Option<PathBuf>,
    /// Seconds that its import took.
    pub seconds: f64,
    /// Why it failed to load.
    pub error: Option<String>,
}

/// A prompt that could be queued.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Output nodes that would run.
    pub outputs: Vec<String>,
    /// Errors of output nodes that would not, and of what they depend on.
    pub node_errors: IndexMap<String, NodeErrors>,
}

/// The running server, as an extension sees it.
pub trait Application: Send + Sync {
    /// Adds classes, as Python implementations beside native ones of the same name; with `prefer`, in front of them.
    fn register(&self, classes: Vec<(String, Arc<dyn Node>)>, prefer: bool);

    /// Adds classes that take the place of native ones of the same name.
    fn replace(&self, classes: Vec<(String, Arc<dyn Node>)>);

    /// The native classes.
    fn native(&self) -> Registry;

    /// Takes events.
    fn sink(&self) -> Arc<dyn EventSink>;

    /// Files and models.
    fn host(&self) -> Arc<dyn Host>;

    /// Folders as `folder_paths` names them: `base`, `models`, `input`, `output`, `temp`, `user`, and `keys`
    /// (`{folder key: [[folders], [extensions]]}`).
    fn folders(&self) -> Value;

    /// Adds a folder to a model folder key, in front of the others if `first`.
    fn add_model_folder(&self, key: &str, folder: PathBuf, first: bool);

    /// Replaces a key's folders and the extensions of the files in them; without extensions every file counts.
    fn set_model_folder(&self, key: &str, folders: Vec<PathBuf>, extensions: Vec<String>);

    /// Moves the `input`, `output` or `temp` folder; false for another kind.
    fn set_folder(&self, kind: &str, folder: PathBuf) -> bool;

    /// Running and pending prompts.
    fn queue(&self) -> (Vec<QueueItem>, Vec<QueueItem>);

    /// History entries as `GET /history` gives them.
    fn history(&self, prompt_id: Option<&str>, max_items: Option<usize>, offset: Option<usize>) -> Value;

    /// Deletes a history entry, or all for `None`.
    fn delete_history(&self, prompt_id: Option<&str>);

    /// Queues a prompt: body as of `POST /prompt`. The extension's own handlers do not see it.
    ///
    /// # Errors
    /// The 400 answer.
    fn submit(&self, body: Value) -> Result<PromptAccepted, PromptRejected>;

    /// Checks a prompt (API format) without queueing it; `targets` are the output nodes that are wanted, all for
    /// `None`. Gives the output nodes that would run, and the errors of those that would not.
    ///
    /// # Errors
    /// The 400 answer.
    fn validate(&self, prompt: &Value, targets: Option<&[String]>) -> Result<Validated, PromptRejected>;

    /// Removes a pending prompt, or all for `None`; whether there was one.
    fn delete_queued(&self, prompt_id: Option<&str>) -> bool;

    /// Interrupts the running prompt if it is that one, or whatever runs for `None`.
    fn interrupt(&self, prompt_id: Option<&str>);

    /// Asks to unload models and drop cached outputs when the running prompt has ended.
    fn free(&self, unload_models: bool, free_memory: bool);

    /// Feature flags of a connected session, `None` when it is not connected.
    fn session_flags(&self, sid: &str) -> Option<Map<String, Value>>;

    /// Ids of the connected sessions.
    fn sessions(&self) -> Vec<String>;

    /// A line of a node's output, for the log.
    fn log(&self, line: &str);
}
