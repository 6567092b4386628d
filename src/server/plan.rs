//! Who gets what of a batch, and the memory of batches that are sent.

use std::rc::Rc;

use crate::core::room::{GroupHandle, Room};

use super::batch::{Batch, Filter, Topic};
use super::connection::Connection;
use super::options::SPARE_BYTES;

/// Who gets what of a batch. It is decided when the batch begins, so that it can be interrupted.
#[derive(Default)]
pub(super) struct Plan {
    /// Connections with answers in the batch.
    pub answered: Vec<Rc<Connection>>,
    /// The slots of the peers concerned.
    pub visits: Vec<u32>,
    /// For each peer slot the number of its group's mask; 0 if it listens to none of the topics.
    mask_of_peer: Vec<u32>,
    /// For each group the same.
    mask_of_group: Vec<u32>,
    /// The groups that have a mask, in its order.
    groups: Vec<GroupHandle>,
    /// For each of these groups a bit for each of the batch's topics.
    masks: Vec<u64>,
    words: usize,
}

impl Plan {
    /// Decides for all but the answers.
    pub fn make(&mut self, batch: &Batch, room: &Room, members: &[Option<Rc<Connection>>]) {
        let is_there = |slot: u32| members.get(slot as usize).is_some_and(Option::is_some);
        self.words = batch.topics.len().div_ceil(64);
        for (nth, topic) in batch.topics.iter().enumerate() {
            match topic {
                Topic::Key(key) => room.groups(*key).for_each(|group| self.add(group, nth)),
                // A group has members; one that has none is no more, and its place may be another's.
                Topic::Groups(concern) => {
                    let live = concern.groups.iter().filter(|group| !room.members(**group).is_empty());
                    live.for_each(|group| self.add(*group, nth));
                }
            }
        }
        if !batch.stream.is_empty() {
            self.mask_of_peer.resize(members.len(), 0);
        }
        for (nth, group) in self.groups.iter().enumerate() {
            // A peer in its grace period listens, but has no connection.
            for slot in room.members(*group).iter().filter(|slot| is_there(**slot)) {
                self.mask_of_peer[*slot as usize] = nth as u32 + 1;
                self.visits.push(*slot);
            }
        }
        if batch.first_news.is_some() {
            let unmasked = (0..members.len() as u32).filter(|slot| self.mask_of_peer[*slot as usize] == 0);
            self.visits.extend(unmasked.filter(|slot| is_there(*slot)));
        }
    }

    /// The group is concerned by a topic.
    fn add(&mut self, group: GroupHandle, topic: usize) {
        let mask = self.mask_of(group);
        self.masks[(mask - 1) * self.words + topic / 64] |= 1 << (topic % 64);
    }

    fn mask_of(&mut self, group: GroupHandle) -> usize {
        let place = group.index as usize;
        if self.mask_of_group.len() <= place {
            self.mask_of_group.resize(place + 1, 0);
        }
        if self.mask_of_group[place] == 0 {
            self.groups.push(group);
            self.masks.resize(self.groups.len() * self.words, 0);
            self.mask_of_group[place] = self.groups.len() as u32;
        }
        self.mask_of_group[place] as usize
    }

    /// What of the batch concerns a connection.
    pub fn filter(&self, connection: &Connection) -> Filter<'_> {
        let peer = connection.peer.get();
        let mask = peer.and_then(|peer| self.mask_of_peer.get(peer.slot as usize)).map_or(0, |mask| *mask as usize);
        let topics = match mask {
            0 => &[],
            mask => self.masks.get((mask - 1) * self.words..mask * self.words).unwrap_or(&[]),
        };
        Filter { peer, news_from: connection.hears_news_from(), topics }
    }

    /// Empties it, but keeps the memory for the next.
    fn clear(&mut self) {
        self.answered.clear();
        self.visits.clear();
        self.mask_of_peer.clear();
        self.mask_of_group.clear();
        self.groups.clear();
        self.masks.clear();
    }

    /// The bytes of memory it holds, about.
    fn size(&self) -> usize {
        8 * (self.answered.capacity() + self.groups.capacity() + self.masks.capacity())
            + 4 * (self.visits.capacity() + self.mask_of_peer.capacity() + self.mask_of_group.capacity())
    }
}

/// Batches and plans that a loop keeps for the next, so that idle rooms have none and busy ones do not
/// ask the allocator for them.
#[derive(Default)]
pub(super) struct Spares {
    pairs: Vec<(Rc<Batch>, Box<Plan>)>,
    /// The bytes of memory they hold, about.
    size: usize,
}

impl Spares {
    /// An empty batch and its plan.
    pub fn take(&mut self, number: u64, start: u64) -> (Rc<Batch>, Box<Plan>) {
        let (mut batch, plan) = self.pairs.pop().unwrap_or_default();
        self.size = self.size.saturating_sub(batch.size() + plan.size());
        // Nobody shares it, so this copies nothing.
        Rc::make_mut(&mut batch).begin(number, start);
        (batch, plan)
    }

    /// Takes them back, unless there are enough, or a slow connection has part of them still.
    pub fn put(&mut self, mut batch: Rc<Batch>, mut plan: Box<Plan>) {
        let Some(sole) = Rc::get_mut(&mut batch) else { return };
        let size = sole.size() + plan.size();
        if self.size + size <= SPARE_BYTES {
            sole.clear();
            plan.clear();
            self.size += size;
            self.pairs.push((batch, plan));
        }
    }
}
