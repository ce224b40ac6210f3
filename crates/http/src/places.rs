//! Which connections there are, and which of them gives way to a new one: none that has something to do.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

/// Of all places an address has this part at most; this machine's own may have all.
const PART: usize = 4;

/// All of them.
pub(crate) struct Places {
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    last: u64,
    by_number: HashMap<u64, State>,
}

struct State {
    who: Who,
    /// Requests that are not answered to their end; two follow each other without a gap.
    requests: usize,
    since: Instant,
    gives_way: Arc<Notify>,
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Here,
    /// A network of IPv6 for an address: it is given to one customer as a whole.
    Elsewhere(IpAddr),
}

/// A connection's place, which is free again when this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    gives_way: Arc<Notify>,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Place>);

/// Requests of a connection of whose answers a part may still wait in this process for the client to take it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsent(Arc<Mutex<Vec<Busy>>>);

/// Of an answer that is handed over piece by piece. With its last piece the request is not over: it is [`Unsent`].
#[derive(Debug)]
pub(crate) struct Answering {
    busy: Option<Busy>,
    unsent: Unsent,
}

impl Places {
    /// As many as `room` in all.
    pub(crate) fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { each: (room / PART).max(1), taken: Mutex::default() })
    }

    /// For a new connection. `None`: the address has as many as it may, and all of them have something to do.
    pub(crate) fn take(self: &Arc<Self>, source: Option<IpAddr>) -> Option<Arc<Place>> {
        let who = Who::of(source);
        let mut taken = self.taken.lock();
        let theirs = taken.by_number.values().filter(|state| state.who == who).count();
        if who != Who::Here && theirs >= self.each && !taken.one_gives_way(|state| state.who == who) {
            return None;
        }
        taken.last += 1;
        let (number, gives_way) = (taken.last, Arc::new(Notify::new()));
        let state = State { who, requests: 0, since: Instant::now(), gives_way: Arc::clone(&gives_way) };
        taken.by_number.insert(number, state);
        Some(Arc::new(Place { places: Arc::clone(self), number, gives_way }))
    }

    /// Where all are taken: one of whoever has most.
    pub(crate) fn make_room(&self) {
        let mut taken = self.taken.lock();
        let mut counts: HashMap<Who, usize> = HashMap::new();
        for state in taken.by_number.values().filter(|state| state.requests == 0) {
            *counts.entry(state.who).or_default() += 1;
        }
        if let Some((who, _)) = counts.into_iter().max_by_key(|(_, count)| *count) {
            taken.one_gives_way(|state| state.who == who);
        }
    }
}

impl Taken {
    /// The one that has had nothing to do for longest.
    fn one_gives_way(&mut self, is_meant: impl Fn(&State) -> bool) -> bool {
        let idle = self.by_number.iter().filter(|(_, state)| state.requests == 0 && is_meant(state));
        let Some(number) = idle.min_by_key(|(_, state)| state.since).map(|(number, _)| *number) else { return false };
        if let Some(state) = self.by_number.remove(&number) {
            state.gives_way.notify_one();
        }
        true
    }
}

impl Who {
    fn of(source: Option<IpAddr>) -> Self {
        match source.map(|address| address.to_canonical()) {
            None => Self::Here,
            Some(address) if address.is_loopback() => Self::Here,
            Some(IpAddr::V6(address)) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Self::Elsewhere(Ipv6Addr::from(network).into())
            }
            Some(address) => Self::Elsewhere(address),
        }
    }
}

impl Place {
    /// Returns when another connection is to have it.
    pub(crate) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    /// A request begins; it is answered when what this returns is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.change(|state| state.requests += 1);
        Busy(Arc::clone(self))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.places.taken.lock().by_number.get_mut(&self.number) {
            change(state);
        }
    }
}

impl Unsent {
    /// For the answer to that request.
    pub(crate) fn answering(&self, busy: Busy) -> Answering {
        Answering { busy: Some(busy), unsent: self.clone() }
    }

    /// The kernel has all that was handed over.
    pub(crate) fn is_sent(&self) {
        let sent = std::mem::take(&mut *self.0.lock());
        drop(sent);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.unsent.0.lock().extend(self.busy.take());
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Place({})", self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().by_number.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.requests -= 1;
            state.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_given_way(place: &Place) -> bool {
        !place.places.taken.lock().by_number.contains_key(&place.number)
    }

    #[test]
    fn an_address_has_its_part_and_its_longest_idle_connection_gives_way() {
        let places = Places::new(8);
        let address = |text: &str| Some(text.parse().unwrap());
        let one = ["10.0.0.1", "::ffff:10.0.0.1"].map(|text| places.take(address(text)).unwrap());
        let other = ["2001:db8::1", "2001:db8::2"].map(|text| places.take(address(text)).unwrap());
        let third = places.take(address("10.0.0.1")).unwrap();
        assert!(has_given_way(&one[0]) && !has_given_way(&one[1]));
        let busy = [one[1].busy(), third.busy()];
        assert!(places.take(address("10.0.0.1")).is_none(), "both of them have something to do");
        assert!(!other.iter().any(|place| has_given_way(place)));
        drop(busy);
        let _fourth = places.take(address("10.0.0.1")).unwrap();
        assert!(has_given_way(&one[1]), "it was the first to have nothing to do");
        let _of_the_network = places.take(address("2001:db8::3")).unwrap();
        assert!(has_given_way(&other[0]));
        let local: Vec<_> = (0..20).map(|_| places.take(address("127.0.0.1")).unwrap()).collect();
        assert!(!local.iter().any(|place| has_given_way(place)));
    }

    #[test]
    fn where_all_are_taken_one_of_whoever_has_most_gives_way() {
        let places = Places::new(40);
        let address = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let one = places.take(address(1)).unwrap();
        let many: Vec<_> = (0..3).map(|_| places.take(address(2)).unwrap()).collect();
        let _busy = many[0].busy();
        places.make_room();
        assert!(has_given_way(&many[1]) && !has_given_way(&many[0]) && !has_given_way(&one));
        drop((one, many));
        assert_eq!(places.taken.lock().by_number.len(), 1, "the busy one");
    }
}
