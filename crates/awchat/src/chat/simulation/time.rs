//! Virtual time: tasks run one at a time, in an order that the seed alone decides.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Names a task.
pub(super) type TaskId = u64;

/// The clock that nobody can read but the simulation, and the tasks that wait on it.
pub(super) struct Timeline {
    now_ms: Cell<i64>,
    seed: Cell<u64>,
    counted: Cell<u64>,
    due: RefCell<BinaryHeap<Reverse<(i64, u64, TaskId)>>>,
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    current: Cell<TaskId>,
    dying: Cell<Option<usize>>,
}

struct Task {
    node: Option<usize>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

impl Timeline {
    pub(super) fn new(seed: u64, now_ms: i64) -> Self {
        Self {
            now_ms: Cell::new(now_ms),
            // Neighbouring seeds must not give neighbouring worlds.
            seed: Cell::new(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x2545_f491_4f6c_dd1d),
            counted: Cell::new(0),
            due: RefCell::default(),
            tasks: RefCell::default(),
            current: Cell::new(0),
            dying: Cell::new(None),
        }
    }

    /// Unix milliseconds, as they truly are.
    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    /// A random number (splitmix64).
    fn random(&self) -> u64 {
        let seed = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.set(seed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random number from `from` up to, not including, `to`.
    pub(super) fn between(&self, from: i64, to: i64) -> i64 {
        let width = to.saturating_sub(from).max(1).unsigned_abs();
        from + i64::try_from(self.random() % width).expect("less than an i64's width")
    }

    /// Something that happens so often in a million times.
    pub(super) fn chance(&self, in_a_million: i64) -> bool {
        self.between(0, 1_000_000) < in_a_million
    }

    /// A number that was not given before.
    pub(super) fn count(&self) -> u64 {
        self.counted.set(self.counted.get() + 1);
        self.counted.get()
    }

    /// Begins a task; `node`: it dies with this node.
    pub(super) fn spawn(&self, node: Option<usize>, future: impl Future<Output = ()> + 'static) {
        let id = self.count();
        self.tasks.borrow_mut().insert(id, Task { node, future: Box::pin(future) });
        self.wake(id);
    }

    /// The task that is running.
    pub(super) fn current(&self) -> TaskId {
        self.current.get()
    }

    /// Lets a task look again whether it can go on.
    pub(super) fn wake(&self, id: TaskId) {
        self.wake_at(id, self.now_ms());
    }

    fn wake_at(&self, id: TaskId, at_ms: i64) {
        let order = self.count();
        self.due.borrow_mut().push(Reverse((at_ms, order, id)));
    }

    /// Waits.
    pub(super) async fn sleep(&self, ms: i64) {
        self.sleep_until(self.now_ms() + ms).await;
    }

    /// Waits until a time.
    pub(super) async fn sleep_until(&self, at_ms: i64) {
        let mut is_set = false;
        poll_fn(|_| {
            if self.now_ms() >= at_ms {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut is_set, true) {
                self.wake_at(self.current(), at_ms);
            }
            Poll::Pending
        })
        .await;
    }

    /// The node's tasks end where they are, as soon as the running task waits.
    pub(super) fn kill(&self, node: usize) {
        self.dying.set(Some(node));
    }

    /// Runs what is due up to `until_ms`; `died` is told of each node that dies.
    pub(super) fn run(&self, until_ms: i64, died: impl Fn(usize)) {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let next = self.due.borrow().peek().map(|Reverse(next)| *next).filter(|next| next.0 <= until_ms);
            let Some((at_ms, _, id)) = next else { break };
            self.due.borrow_mut().pop();
            self.now_ms.set(self.now_ms().max(at_ms));
            let task = self.tasks.borrow_mut().remove(&id);
            let Some(mut task) = task else { continue };
            self.current.set(id);
            if task.future.as_mut().poll(&mut context).is_pending() {
                self.tasks.borrow_mut().insert(id, task);
            }
            if let Some(node) = self.dying.take() {
                self.bury(|task| task.node == Some(node));
                died(node);
            }
        }
        self.now_ms.set(self.now_ms().max(until_ms));
    }

    /// Ends every task: they hold the world they live in.
    pub(super) fn end(&self) {
        self.bury(|_| true);
    }

    fn bury(&self, dead: impl Fn(&Task) -> bool) {
        let all = std::mem::take(&mut *self.tasks.borrow_mut());
        let (dead, alive): (BTreeMap<_, _>, BTreeMap<_, _>) = all.into_iter().partition(|(_, task)| dead(task));
        *self.tasks.borrow_mut() = alive;
        drop(dead);
    }
}

/// A value that somebody will have one day.
pub(super) struct Promise<T> {
    value: RefCell<Option<T>>,
    waiting: RefCell<Vec<TaskId>>,
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self { value: RefCell::new(None), waiting: RefCell::default() }
    }
}

impl<T: Clone> Promise<T> {
    /// Keeps it, unless it was kept before.
    pub(super) fn keep(&self, time: &Timeline, value: T) {
        self.value.borrow_mut().get_or_insert(value);
        self.waiting.borrow_mut().drain(..).for_each(|task| time.wake(task));
    }

    /// Waits for the value, at most so long; `None` if it did not come.
    pub(super) async fn wait(&self, time: &Timeline, longest_ms: i64) -> Option<T> {
        let until_ms = time.now_ms().saturating_add(longest_ms);
        let mut is_set = false;
        poll_fn(|_| {
            let value = self.value.borrow().clone();
            if value.is_some() || time.now_ms() >= until_ms {
                return Poll::Ready(value);
            }
            if !std::mem::replace(&mut is_set, true) {
                time.wake_at(time.current(), until_ms);
                self.waiting.borrow_mut().push(time.current());
            }
            Poll::Pending
        })
        .await
    }
}
