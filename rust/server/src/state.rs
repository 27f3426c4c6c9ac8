//! What every route sees.

use std::ops::Deref;
use std::sync::Arc;

use rushlight_runtime::Host;

use crate::settings::ServerSettings;

/// The running server, shared by all routes. Cloning is cheap.
#[derive(Clone)]
pub struct AppState(Arc<App>);

/// The parts of a running server.
pub struct App {
    /// How it was configured.
    pub settings: ServerSettings,
    /// Files and models.
    pub host: Arc<dyn Host>,
}

impl AppState {
    /// Shares the parts.
    pub fn new(app: App) -> Self {
        Self(Arc::new(app))
    }
}

impl Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}
