//! One at a time per name, on one node: as `turns`, in virtual time.

use super::sending::Chat;

/// A turn; the next begins when it is dropped.
pub(super) struct Turn {
    chat: Chat,
    name: String,
    ticket: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.chat.memory.turns.borrow_mut();
        let Some(queue) = turns.get_mut(&self.name) else { return };
        queue.retain(|(ticket, _)| *ticket != self.ticket);
        match queue.first() {
            Some((_, next)) => self.chat.world.time.wake(*next),
            None => drop(turns.remove(&self.name)),
        }
    }
}

impl Chat {
    pub(super) async fn turn(&self, name: String) -> Turn {
        let (ticket, task) = (self.world.time.count(), self.world.time.current());
        self.memory.turns.borrow_mut().entry(name.clone()).or_default().push((ticket, task));
        let turn = Turn { chat: self.clone(), name, ticket };
        std::future::poll_fn(|_| {
            let turns = self.memory.turns.borrow();
            let is_next = turns[&turn.name].first().is_some_and(|(first, _)| *first == ticket);
            if is_next { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        turn
    }
}
