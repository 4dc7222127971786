//! Whose turn it is: least served first.

use std::collections::BTreeSet;

/// Entries in order of the service they were given. The first one stands apart from the others:
/// every event asks for it, and where nobody else waits it is served again and again.
#[derive(Clone, Debug)]
pub(crate) struct Turns<K> {
    first: Option<(u64, K)>,
    /// All behind the first.
    others: BTreeSet<(u64, K)>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Turns {
            first: None,
            others: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord> Turns<K> {
    /// Service given and who has their turn.
    #[inline]
    pub fn first(&self) -> Option<&(u64, K)> {
        self.first.as_ref()
    }

    /// `false`: it was there.
    #[inline]
    pub fn insert(&mut self, entry: (u64, K)) -> bool {
        match self.first {
            None => self.first = Some(entry),
            Some(first) if entry < first => {
                self.first = Some(entry);
                self.others.insert(first);
            }
            Some(first) => return entry != first && self.others.insert(entry),
        }
        true
    }

    /// `false`: it was not there.
    #[inline]
    pub fn remove(&mut self, entry: &(u64, K)) -> bool {
        if self.first.as_ref() == Some(entry) {
            self.first = self.others.pop_first();
            return true;
        }
        self.others.remove(entry)
    }

    #[inline]
    pub fn pop_first(&mut self) -> Option<(u64, K)> {
        let first = self.first?;
        self.first = self.others.pop_first();
        Some(first)
    }

    pub fn contains(&self, entry: &(u64, K)) -> bool {
        self.first.as_ref() == Some(entry) || self.others.contains(entry)
    }

    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &(u64, K)> {
        self.first.iter().chain(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is done to it, it is the ordered set that it stands for.
        #[test]
        fn turns_are_an_ordered_set(steps in prop::collection::vec((0u8..4, 0u64..6, 0u32..4), 0..60)) {
            let (mut turns, mut set) = (Turns::default(), BTreeSet::new());
            for (step, served, who) in steps {
                let entry = (served, who);
                match step {
                    0 | 1 => prop_assert_eq!(turns.insert(entry), set.insert(entry)),
                    2 => prop_assert_eq!(turns.remove(&entry), set.remove(&entry)),
                    _ => prop_assert_eq!(turns.pop_first(), set.pop_first()),
                }
                prop_assert_eq!(turns.first(), set.first());
                prop_assert_eq!(turns.len(), set.len());
                prop_assert_eq!(turns.contains(&entry), set.contains(&entry));
                prop_assert!(turns.iter().eq(&set));
            }
        }
    }
}
