//! Who listens to what. Peers that listen to the same are one group, which is found from each of its
//! keys: telling a change looks at nothing else.

use std::cmp::Ordering;

use super::*;

/// Peers that listen to the same. As a rule everybody in a room runs the same program, and one group is
/// all there is: then neither joining nor telling a change costs more with more keys.
#[derive(Debug)]
pub(super) struct Group {
    pub serial: u32,
    /// The keys that are named, sorted.
    pub names: KeyList,
    /// The prefixes, sorted.
    pub prefixes: KeyList,
    /// What its members may read of them: those with the same view may read the same.
    view: Arc<str>,
    /// The keys that are named, in their order, then those that begin with a prefix.
    keys: SmallVec<[Link; 1]>,
    /// Slots of the peers.
    pub members: Few,
}

/// One key of a group.
#[derive(Clone, Copy, Debug)]
struct Link {
    key: KeySlot,
    /// The place of the group in that key's list.
    seat: u32,
    /// Whether the group names the key, rather than a prefix of it.
    named: bool,
}

/// What a peer wants to listen to: sorted, each once.
#[derive(Clone, Copy)]
pub(super) struct Selection<'a> {
    pub keys: &'a KeyList,
    pub prefixes: &'a KeyList,
    /// What may be read of them.
    pub view: &'a str,
}

impl Room {
    /// The groups of peers that listen to a key.
    pub fn groups(&self, slot: KeySlot) -> impl Iterator<Item = GroupHandle> + '_ {
        let groups = self.session.as_ref().map(|session| &session.groups);
        let listeners = self.key(slot).map_or(&[][..], |key| &key.listeners);
        let handle = move |index: u32| Some(GroupHandle { index, serial: groups?.get(index as usize)?.serial });
        listeners.iter().filter_map(move |(index, _)| handle(*index))
    }

    /// The slots of the peers of a group; none if the group is no more.
    pub fn members(&self, group: GroupHandle) -> &[u32] {
        self.group(group).map_or(&[], |group| &group.members)
    }

    /// The keys a group listens to: those it names, absent or not, in the order of their names; then
    /// those that are set and begin with one of its prefixes.
    pub fn keys_of(&self, group: GroupHandle) -> impl Iterator<Item = KeySlot> + '_ {
        let links = self.group(group).into_iter().flat_map(|group| &group.keys);
        // A key that others name may be absent.
        let is_meant = |link: &&Link| link.named || self.key(link.key).is_some_and(|key| key.state.is_some());
        links.filter(is_meant).map(|link| link.key)
    }

    /// The group a peer listens with; `None` while it listens to nothing.
    pub fn group_of(&self, peer: PeerHandle) -> Option<GroupHandle> {
        let (index, _) = self.peer(peer)?.listens?;
        let group = self.session.as_ref()?.groups.get(index as usize)?;
        Some(GroupHandle { index, serial: group.serial })
    }

    /// The slots of the peers that listen to a key.
    pub fn listeners(&self, slot: KeySlot) -> impl Iterator<Item = u32> + '_ {
        self.groups(slot).flat_map(|group| self.members(group).iter().copied())
    }

    /// The keys a peer listens to, as [`keys_of`](Room::keys_of) its group.
    pub fn listen_set(&self, peer: PeerHandle) -> impl Iterator<Item = KeySlot> + '_ {
        self.group_of(peer).into_iter().flat_map(|group| self.keys_of(group))
    }

    /// What a peer does not know that knows a revision of this session, and everything before it that concerns
    /// what it listens to now: the newest state of each key that has changed since, removals included, in the
    /// order of their revisions. `None` if not enough is known to tell.
    pub fn changes_since(&self, peer: PeerHandle, revision: u64) -> Option<Vec<Arc<Change>>> {
        let session = self.session.as_ref()?;
        let handle = self.group_of(peer)?;
        let group = self.group(handle)?;
        let reaches_back = revision >= self.peer(peer)?.regrouped && revision >= session.removals_forgotten;
        if !reaches_back || revision > session.revision {
            return None;
        }
        let states = group.keys.iter().filter_map(|link| session.keys[link.key.index as usize].state.as_ref());
        let is_gone = |removal: &&Arc<Change>| {
            let slot = session.key_index.get(&removal.key);
            let is_set = slot.is_some_and(|slot| session.keys[slot.index as usize].state.is_some());
            let is_named = || group.names.iter().any(|name| *name == *removal.key);
            !is_set && (session.is_found_by(group, &removal.key) || is_named())
        };
        let is_missed = |change: &&Arc<Change>| change.version > revision;
        let mut changes: Vec<_> = states.filter(is_missed).cloned().collect();
        let mut gone: Vec<_> = session.removals.iter().filter(is_missed).filter(is_gone).cloned().collect();
        // Of a key that was removed several times the last counts.
        gone.reverse();
        let mut told = BTreeSet::new();
        gone.retain(|removal| told.insert(removal.key.clone()));
        changes.append(&mut gone);
        changes.sort_by_key(|change| change.version);
        Some(changes)
    }

    /// Whether a key is told only to those who listen to a prefix of it, and is gone with the next
    /// command: who is to be told must be found out before.
    pub fn is_fading(&self, slot: KeySlot) -> bool {
        self.key(slot).is_some_and(KeyState::is_forgettable)
    }

    fn group(&self, handle: GroupHandle) -> Option<&Group> {
        let group = self.session.as_ref()?.groups.get(handle.index as usize)?;
        (group.serial == handle.serial).then_some(group)
    }

    pub(super) fn listen(&mut self, peer: PeerHandle, keys: &KeyList, prefixes: &KeyList) -> Result<Reply, Error> {
        let most = self.limits.max_listened_keys;
        let session = self.session_of(peer)?;
        let view = session.view(peer.slot, prefixes);
        let mut wanted = Selection { keys, prefixes, view: &view };
        let mut found = session.find_group(wanted);
        // The same set is the same group whatever the order it came in.
        let (sorted_keys, sorted_prefixes);
        if found.is_err() {
            (sorted_keys, sorted_prefixes) = (keys.sorted(), prefixes.sorted());
            (wanted.keys, wanted.prefixes) = (&sorted_keys, &sorted_prefixes);
            found = session.find_group(wanted);
        }
        if found.is_err() {
            // The keys of a group that exists were checked when it began.
            wanted.keys.iter().try_for_each(names::check_key)?;
            wanted.prefixes.iter().try_for_each(names::check_prefix)?;
        }
        if session.rules.is_some() {
            wanted.keys.iter().try_for_each(|key| session.check_right(peer, Right::Read, key))?;
        }
        let count = wanted.keys.len() + wanted.prefixes.len();
        if count > most {
            let message = format!("{count} keys at once; at most {most} are allowed");
            return Err(Error::new(ErrorCode::TooManyListenedKeys, message));
        }
        let before = session.peers[peer.slot as usize].listens;
        let group = match found {
            Ok(group) if before.is_some_and(|(before, _)| before == group) => return Ok(Reply::Done),
            found => session.group_for(found, wanted, peer.slot),
        };
        session.move_to(peer.slot, group);
        Ok(Reply::Done)
    }
}

impl Group {
    /// The place among the groups: by what they name, then by their prefixes, then by what may be read.
    fn cmp(&self, wanted: Selection<'_>) -> Ordering {
        let by_keys = self.names.cmp(wanted.keys);
        by_keys.then_with(|| self.prefixes.cmp(wanted.prefixes)).then_with(|| (*self.view).cmp(wanted.view))
    }

    fn selection(&self) -> Selection<'_> {
        Selection { keys: &self.names, prefixes: &self.prefixes, view: &self.view }
    }
}

impl KeyState {
    /// Whether nobody would miss it but those who listen to a prefix of it.
    pub(super) fn is_forgettable(&self) -> bool {
        self.state.is_none() && self.named_by == 0
    }
}

impl Session {
    pub(super) fn add_key(&mut self, key: &str) -> KeySlot {
        self.next_key_serial = self.next_key_serial.wrapping_add(1);
        self.insert_key(key.into(), self.next_key_serial)
    }

    pub(super) fn insert_key(&mut self, key: Arc<str>, serial: u32) -> KeySlot {
        let state = KeyState {
            key: key.clone(),
            serial,
            named_by: 0,
            state: None,
            listeners: SmallVec::new(),
            owner: None,
            deadline: 0,
            lock: None,
        };
        let slot = KeySlot { index: self.keys.insert(state) as u32, serial };
        self.key_index.insert(key.clone(), slot);
        for nth in 0..self.prefix_groups.len() {
            let group = self.prefix_groups[nth];
            if self.is_found_by(&self.groups[group as usize], &key) {
                self.link(group, slot, false);
            }
        }
        slot
    }

    /// Whether a prefix of a group means a key, and its members may read it: what one may, all may.
    fn is_found_by(&self, group: &Group, key: &str) -> bool {
        let may_read = |rules: &Arc<Rules>| {
            group.members.first().is_some_and(|member| rules.allows(self.caller(*member), Right::Read, key))
        };
        group.prefixes.iter().any(|prefix| names::begins_with(key, prefix)) && self.rules.as_ref().is_none_or(may_read)
    }

    /// What tells those apart that may read different keys of these prefixes.
    pub(super) fn view(&self, peer: u32, prefixes: &KeyList) -> String {
        match &self.rules {
            // Keys that are named are refused or not; of prefixes it matters what is found.
            Some(rules) if !prefixes.is_empty() => {
                // A view of other rules may have the same name.
                format!("{}:{}", self.rules_generation, rules.view(self.caller(peer)))
            }
            _ => String::new(),
        }
    }

    /// Everybody listens to what the rules allow by now.
    pub(super) fn regroup_all(&mut self, events: &mut Vec<Event>) {
        let slots: Vec<u32> = self.peers.iter().map(|(slot, _)| slot as u32).collect();
        slots.into_iter().for_each(|slot| self.regroup(slot, events));
    }

    /// A peer listens to what the rules allow by now, of what it listened to.
    pub(super) fn regroup(&mut self, peer: u32, events: &mut Vec<Event>) {
        let Some((before, _)) = self.peers[peer as usize].listens else { return };
        let handle = PeerHandle { slot: peer, serial: self.peers[peer as usize].serial };
        let (names, prefixes) =
            (self.groups[before as usize].names.clone(), self.groups[before as usize].prefixes.clone());
        let (keys, revoked): (Vec<&str>, Vec<&str>) = names.iter().partition(|key| self.may(handle, Right::Read, key));
        let keys = KeyList::of(&keys);
        if revoked.is_empty() && prefixes.is_empty() {
            return;
        }
        let view = self.view(peer, &prefixes);
        let wanted = Selection { keys: &keys, prefixes: &prefixes, view: &view };
        let group = match self.find_group(wanted) {
            // The rules, or the role, are others, and allow the same.
            Ok(group) if group == before => return,
            found => self.group_for(found, wanted, peer),
        };
        self.move_to(peer, group);
        // What it was told of this revision may have been before.
        self.peers[peer as usize].regrouped = self.revision + 1;
        let revoked = revoked.into_iter().map(Arc::from).collect();
        events.push(Event::ListeningChanged { peer: handle, revoked });
    }

    /// The group that listens to this, which a peer has looked for and is about to be a member of; none to listen
    /// to nothing.
    pub(super) fn group_for(&mut self, found: Result<u32, usize>, wanted: Selection<'_>, peer: u32) -> Option<u32> {
        match found {
            _ if wanted.keys.is_empty() && wanted.prefixes.is_empty() => None,
            Ok(group) => Some(group),
            Err(place) => Some(self.add_group(place, wanted, peer)),
        }
    }

    /// A peer listens with another group, or with none.
    pub(super) fn move_to(&mut self, peer: u32, group: Option<u32>) {
        // Keys that are in both sets keep their slots: the new group holds them already.
        self.leave_group(peer);
        if let Some(group) = group {
            let members = &mut self.groups[group as usize].members;
            self.peers[peer as usize].listens = Some((group, members.len() as u32));
            members.push(peer);
        }
    }

    /// A group listens to a key from now on.
    fn link(&mut self, group: u32, key: KeySlot, named: bool) {
        let state = &mut self.keys[key.index as usize];
        state.named_by += u32::from(named);
        let links = &mut self.groups[group as usize].keys;
        let seat = state.listeners.len() as u32;
        state.listeners.push((group, links.len() as u32));
        links.push(Link { key, seat, named });
    }

    /// Forgets a key that is neither set nor listened to; one that is listened to by prefix alone is
    /// forgotten when its removal has been told.
    pub(super) fn forget_key_if_unused(&mut self, slot: KeySlot) {
        let entry = &self.keys[slot.index as usize];
        if !entry.is_forgettable() {
            return;
        }
        if entry.listeners.is_empty() {
            let entry = self.keys.remove(slot.index as usize);
            self.key_index.remove(&entry.key);
        } else {
            self.fading.push(slot);
        }
    }

    pub(super) fn forget_faded_keys(&mut self) {
        while let Some(slot) = self.fading.pop() {
            // It may have been forgotten, or set again, by the command that removed it.
            let entry = self.keys.get_mut(slot.index as usize).filter(|entry| entry.serial == slot.serial);
            let Some(entry) = entry.filter(|entry| entry.is_forgettable()) else { continue };
            for (group, nth) in std::mem::take(&mut entry.listeners) {
                let links = &mut self.groups[group as usize].keys;
                // Keys found by prefix come last, so that those that are named keep their order.
                links.swap_remove(nth as usize);
                if let Some(moved) = links.get(nth as usize).copied() {
                    self.keys[moved.key.index as usize].listeners[moved.seat as usize].1 = nth;
                }
            }
            self.forget_key_if_unused(slot);
        }
        self.fading = Vec::new();
    }

    /// The group that listens to exactly this, which is sorted; or where it belongs in the index.
    pub(super) fn find_group(&self, wanted: Selection<'_>) -> Result<u32, usize> {
        let place = self.group_index.binary_search_by(|group| self.groups[*group as usize].cmp(wanted));
        place.map(|place| self.group_index[place])
    }

    /// Adds a group for a peer, still without members, at its place in the index.
    fn add_group(&mut self, place: usize, wanted: Selection<'_>, peer: u32) -> u32 {
        self.next_group_serial = self.next_group_serial.wrapping_add(1);
        let group = self.groups.insert(Group {
            serial: self.next_group_serial,
            names: wanted.keys.clone(),
            prefixes: wanted.prefixes.clone(),
            view: self.text(wanted.view),
            keys: SmallVec::with_capacity(wanted.keys.len()),
            members: Few::new(),
        }) as u32;
        self.group_index.insert(place, group);
        for key in wanted.keys.iter() {
            let slot = self.key_index.get(key).unwrap_or_else(|| self.add_key(key));
            self.link(group, slot, true);
        }
        if !wanted.prefixes.is_empty() {
            let may_read = |rules: &Arc<Rules>, key: &str| rules.allows(self.caller(peer), Right::Read, key);
            let named: Vec<&str> = wanted.keys.iter().collect();
            let is_wanted = |key: &str| {
                wanted.prefixes.iter().any(|prefix| names::begins_with(key, prefix))
                    && named.binary_search(&key).is_err()
                    && self.rules.as_ref().is_none_or(|rules| may_read(rules, key))
            };
            let matching = self.key_index.iter().filter(|(key, _)| is_wanted(key)).map(|(_, slot)| slot);
            for slot in matching.collect::<Vec<_>>() {
                self.link(group, slot, false);
            }
            self.prefix_groups.push(group);
        }
        group
    }

    /// A peer stops listening; a group ends with its last member.
    pub(super) fn leave_group(&mut self, peer: u32) {
        let Some((group, seat)) = self.peers[peer as usize].listens.take() else { return };
        // The list is kept dense: the last takes the place of the one that goes.
        let members = &mut self.groups[group as usize].members;
        members.swap_remove(seat as usize);
        match members.get(seat as usize) {
            Some(&moved) => self.peers[moved as usize].listens = Some((group, seat)),
            None if members.is_empty() => self.end_group(group),
            None => {}
        }
    }

    fn end_group(&mut self, index: u32) {
        let gone = &self.groups[index as usize];
        let order = |other: &u32| self.groups[*other as usize].cmp(gone.selection());
        if let Ok(place) = self.group_index.binary_search_by(order) {
            self.group_index.remove(place);
        }
        self.prefix_groups.retain(|group| *group != index);
        for link in self.groups.remove(index as usize).keys {
            let state = &mut self.keys[link.key.index as usize];
            state.named_by -= u32::from(link.named);
            state.listeners.swap_remove(link.seat as usize);
            if let Some(&(moved, nth)) = state.listeners.get(link.seat as usize) {
                self.groups[moved as usize].keys[nth as usize].seat = link.seat;
            }
            self.forget_key_if_unused(link.key);
        }
    }
}
