//! The keys of a session in the order of their names.

use std::collections::{btree_map, BTreeMap};
use std::ops::Bound;
use std::sync::Arc;

use super::KeySlot;

/// So many keys are in a list; more of them are in a tree, whose smallest part has room for as many.
const FEW: usize = 11;

/// Finds keys by their names. Most rooms have a key or two: these take what they need, where a tree would take 280 bytes
/// for the first.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    /// Sorted; empty if there is a tree.
    few: Vec<(Arc<str>, KeySlot)>,
    many: Option<Box<BTreeMap<Arc<str>, KeySlot>>>,
}

impl KeyIndex {
    pub fn get(&self, key: &str) -> Option<KeySlot> {
        match &self.many {
            Some(many) => many.get(key).copied(),
            None => self.place(key).ok().map(|place| self.few[place].1),
        }
    }

    /// Adds a key, or gives one another slot.
    pub fn insert(&mut self, key: Arc<str>, slot: KeySlot) {
        if let Some(many) = &mut self.many {
            many.insert(key, slot);
            return;
        }
        match self.place(&key) {
            Ok(place) => self.few[place].1 = slot,
            Err(_) if self.few.len() == FEW => {
                let few = std::mem::take(&mut self.few).into_iter();
                self.many = Some(Box::new(few.chain([(key, slot)]).collect()));
            }
            Err(place) => {
                if self.few.is_empty() {
                    self.few.reserve_exact(1);
                }
                self.few.insert(place, (key, slot));
            }
        }
    }

    pub fn remove(&mut self, key: &str) {
        match &mut self.many {
            Some(many) => {
                many.remove(key);
                if many.is_empty() {
                    self.many = None;
                }
            }
            None => {
                if let Ok(place) = self.place(key) {
                    self.few.remove(place);
                }
            }
        }
    }

    /// All keys, in order.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from("")
    }

    /// The slots of all keys, in the order of the keys.
    pub fn slots(&self) -> impl Iterator<Item = KeySlot> + '_ {
        self.iter().map(|(_, slot)| slot)
    }

    /// The keys from this one on, in order.
    pub fn iter_from(&self, first: &str) -> Iter<'_> {
        match &self.many {
            Some(many) => Iter::Many(many.range::<str, _>((Bound::Included(first), Bound::Unbounded))),
            None => Iter::Few(self.few[self.few.partition_point(|(key, _)| **key < *first)..].iter()),
        }
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.few.binary_search_by(|(other, _)| (**other).cmp(key))
    }
}

/// Keys with their slots, in the order of the keys.
pub(super) enum Iter<'a> {
    Few(std::slice::Iter<'a, (Arc<str>, KeySlot)>),
    Many(btree_map::Range<'a, Arc<str>, KeySlot>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Arc<str>, KeySlot);

    fn next(&mut self) -> Option<(&'a Arc<str>, KeySlot)> {
        match self {
            Iter::Few(few) => few.next().map(|(key, slot)| (key, *slot)),
            Iter::Many(many) => many.next().map(|(key, slot)| (key, *slot)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn slot(index: usize) -> KeySlot {
        KeySlot { index: index as u32, serial: 0 }
    }

    proptest! {
        /// Whatever is added and removed, few or many: it finds what a tree finds, in the same order.
        #[test]
        fn it_is_a_sorted_map(steps in prop::collection::vec((any::<bool>(), 0..40_usize), 0..200)) {
            let (mut index, mut tree) = (KeyIndex::default(), BTreeMap::new());
            for (nth, (adds, key)) in steps.into_iter().enumerate() {
                let key = format!("key-{key}");
                if adds {
                    index.insert(key.as_str().into(), slot(nth));
                    tree.insert(key.clone(), slot(nth));
                } else {
                    index.remove(&key);
                    tree.remove(&key);
                }
                prop_assert_eq!(index.get(&key), tree.get(&key).copied());
                let pairs = |(key, slot): (&Arc<str>, KeySlot)| (key.to_string(), slot);
                prop_assert!(index.iter().map(pairs).eq(tree.iter().map(|(key, slot)| (key.clone(), *slot))));
                prop_assert!(index.slots().eq(tree.values().copied()));
                let later: BTreeSet<String> = tree.range(key.clone()..).map(|(key, _)| key.clone()).collect();
                prop_assert!(index.iter_from(&key).map(|(key, _)| key.to_string()).eq(later));
            }
        }
    }

    #[test]
    fn one_key_takes_what_it_needs_and_none_takes_nothing() {
        let mut index = KeyIndex::default();
        index.insert("a".into(), slot(0));
        assert_eq!((index.few.capacity(), index.many.is_some()), (1, false));
        (1..=FEW).for_each(|nth| index.insert(format!("a{nth}").into(), slot(nth)));
        assert_eq!((index.few.capacity(), index.many.is_some()), (0, true));
        index.remove("a");
        (1..=FEW).for_each(|nth| index.remove(&format!("a{nth}")));
        assert!(index.many.is_none());
    }
}
