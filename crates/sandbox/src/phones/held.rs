//! Answers that wait until a test lets them go: the time between a message's arrival and its answer, at will.

use std::sync::Arc;

use tokio::sync::watch;

use super::Network;
use super::outcome::To;

/// Where answers to one recipient's messages wait.
pub(crate) struct Gate {
    waiting: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { waiting: watch::Sender::new(0), open: watch::Sender::new(false) }
    }

    /// Waits until the gate is open.
    pub(crate) async fn pass(&self) {
        let mut open = self.open.subscribe();
        self.waiting.send_modify(|waiting| *waiting += 1);
        // The sender lives in `self`, so this cannot fail.
        let _ = open.wait_for(|open| *open).await;
    }
}

/// Holds the answers to one recipient's messages from its making until its end. Messages take effect at once.
#[must_use = "answers are held as long as this lives"]
pub struct Held {
    network: Arc<Network>,
    to: To,
    gate: Arc<Gate>,
}

impl Held {
    pub(crate) fn new(network: Arc<Network>, to: To) -> Self {
        let gate = Arc::new(Gate::new());
        network.look(|state| state.gates.insert(to.clone(), Arc::clone(&gate)));
        Self { network, to, gate }
    }

    /// Waits until that many answers wait.
    pub async fn arrived(&self, count: usize) {
        let mut waiting = self.gate.waiting.subscribe();
        let _ = waiting.wait_for(|waiting| *waiting >= count).await;
    }

    /// Lets the answers go.
    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.network.look(|state| state.gates.remove(&self.to));
        self.gate.open.send_replace(true);
    }
}
