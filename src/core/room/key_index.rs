//! The keys of a session in the order of their names.

use std::collections::{btree_map, BTreeMap};
use std::ops::Bound;
use std::sync::Arc;

use super::KeySlot;

/// So many keys are in a list; more of them are in a tree, whose smallest part has room for as many.
const FEW: usize = 11;

/// Finds keys by their names. Most rooms have a key or two: these take what they need, where a tree would take 280 bytes
/// for the first.
#[derive(Debug)]
pub(super) enum KeyIndex {
    /// Sorted.
    Few(Vec<(Arc<str>, KeySlot)>),
    Many(BTreeMap<Arc<str>, KeySlot>),
}

impl Default for KeyIndex {
    fn default() -> KeyIndex {
        KeyIndex::Few(Vec::new())
    }
}

impl KeyIndex {
    pub fn get(&self, key: &str) -> Option<KeySlot> {
        match self {
            KeyIndex::Few(few) => place(few, key).ok().map(|place| few[place].1),
            KeyIndex::Many(many) => many.get(key).copied(),
        }
    }

    /// Adds a key, or gives one another slot.
    pub fn insert(&mut self, key: Arc<str>, slot: KeySlot) {
        match self {
            KeyIndex::Few(few) => match place(few, &key) {
                Ok(place) => few[place].1 = slot,
                Err(_) if few.len() == FEW => {
                    *self = KeyIndex::Many(std::mem::take(few).into_iter().chain([(key, slot)]).collect());
                }
                Err(place) => {
                    if few.is_empty() {
                        few.reserve_exact(1);
                    }
                    few.insert(place, (key, slot));
                }
            },
            KeyIndex::Many(many) => drop(many.insert(key, slot)),
        }
    }

    pub fn remove(&mut self, key: &str) {
        match self {
            KeyIndex::Few(few) => {
                if let Ok(place) = place(few, key) {
                    few.remove(place);
                }
            }
            KeyIndex::Many(many) => {
                many.remove(key);
                if many.is_empty() {
                    *self = KeyIndex::default();
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
        match self {
            KeyIndex::Few(few) => Iter::Few(few[few.partition_point(|(key, _)| **key < *first)..].iter()),
            KeyIndex::Many(many) => Iter::Many(many.range::<str, _>((Bound::Included(first), Bound::Unbounded))),
        }
    }
}

/// Where a key is in a sorted list, or where it belongs.
fn place(few: &[(Arc<str>, KeySlot)], key: &str) -> Result<usize, usize> {
    few.binary_search_by(|(other, _)| (**other).cmp(key))
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
        let capacity = |index: &KeyIndex| match index {
            KeyIndex::Few(few) => Some(few.capacity()),
            KeyIndex::Many(_) => None,
        };
        index.insert("a".into(), slot(0));
        assert_eq!(capacity(&index), Some(1));
        (1..=FEW).for_each(|nth| index.insert(format!("a{nth}").into(), slot(nth)));
        assert_eq!(capacity(&index), None);
        index.remove("a");
        (1..=FEW).for_each(|nth| index.remove(&format!("a{nth}")));
        assert_eq!(capacity(&index), Some(0));
    }
}
