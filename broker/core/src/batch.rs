//! Batches: calls that are spread like any other and answered together, in order.

use crate::action::{Action, Outcome};
use crate::call::Origin;
use crate::event::BatchItem;
use crate::{ClientId, Core, Reply, Request};
use rustc_hash::FxHashMap;

/// Batches that still wait for items.
#[derive(Debug)]
pub(crate) struct BatchTable<Q, R> {
    open: FxHashMap<u32, Batch<Q, R>>,
    last: u32,
}

impl<Q, R> Default for BatchTable<Q, R> {
    fn default() -> Self {
        BatchTable {
            open: FxHashMap::default(),
            last: 0,
        }
    }
}

#[derive(Debug)]
struct Batch<Q, R> {
    client: ClientId,
    envelope: Q,
    items: Vec<Item<Q, R>>,
    missing: usize,
    /// Its client left before its end.
    is_unwanted: bool,
}

#[derive(Debug)]
enum Item<Q, R> {
    Open,
    Ended(Q, Option<Outcome<R>>),
    /// A notification has no place in the answer.
    Silent,
}

impl<Q, R> BatchTable<Q, R> {
    pub fn len(&self) -> usize {
        self.open.len()
    }
}

impl<Q: Request, R: Reply> Core<Q, R> {
    /// Takes a batch on, item by item.
    pub(crate) fn submit_batch(&mut self, client: ClientId, envelope: Q, items: Vec<BatchItem<Q>>) {
        self.batches.last = self.batches.last.wrapping_add(1);
        let batch = self.batches.last;
        let open = items.iter().map(|_| Item::Open).collect();
        let missing = items.len() + 1;
        self.batches.open.insert(
            batch,
            Batch {
                client,
                envelope,
                items: open,
                missing,
                is_unwanted: false,
            },
        );
        for (index, item) in items.into_iter().enumerate() {
            let index = index as u32;
            match item {
                BatchItem::Refused(request) => {
                    self.item_ended(batch, index, request, None, false);
                }
                BatchItem::Call(call) if call.is_notification => {
                    self.item_done(batch, index, Item::Silent);
                    self.admit(client, call, Origin::SilentItem);
                }
                BatchItem::Call(call) => self.admit(client, call, Origin::Item { batch, index }),
            }
        }
        // The one more than there are items: no answer goes out while items are still taken on.
        self.count_down(batch);
    }

    /// An item of a batch has its outcome.
    pub(crate) fn item_ended(
        &mut self,
        batch: u32,
        index: u32,
        request: Q,
        outcome: Option<Outcome<R>>,
        is_client_gone: bool,
    ) {
        if let Some(open) = self.batches.open.get_mut(&batch) {
            open.is_unwanted |= is_client_gone;
        }
        self.item_done(batch, index, Item::Ended(request, outcome));
    }

    fn item_done(&mut self, batch: u32, index: u32, item: Item<Q, R>) {
        let Some(open) = self.batches.open.get_mut(&batch) else {
            return;
        };
        open.items[index as usize] = item;
        self.count_down(batch);
    }

    fn count_down(&mut self, batch: u32) {
        let Some(open) = self.batches.open.get_mut(&batch) else {
            return;
        };
        open.missing -= 1;
        if open.missing > 0 {
            return;
        }
        let Some(Batch {
            client,
            envelope,
            items,
            is_unwanted,
            ..
        }) = self.batches.open.remove(&batch)
        else {
            return;
        };
        if is_unwanted {
            return;
        }
        let items = items.into_iter().filter_map(|item| match item {
            Item::Ended(request, outcome) => Some((request, outcome)),
            Item::Open | Item::Silent => None,
        });
        self.actions.push_back(Action::AnswerBatch {
            client,
            envelope,
            items: items.collect(),
        });
    }
}
