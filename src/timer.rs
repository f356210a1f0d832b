//! The timer wheel: which token is due, and when to look next.
//!
//! Owns the order in which deadlines and timers fire. Never knows the clock (time is an
//! argument), sockets, connections, or what a token stands for.

use std::num::NonZeroU32;

use self::lists::{Chunks, List, SPOTS, Spot};
use crate::token::Token;

mod lists;

/// Nanoseconds since the epoch of the loop; they last for 584 years.
pub(crate) type Nanos = u64;

/// A time that no loop reaches.
pub(crate) const NEVER: Nanos = u64::MAX;

/// Resolution: entries fire on whole ticks.
pub(crate) const TICK: Nanos = 1_000_000;

/// The tick on which everything up to and including [`NEVER`] is due.
const LAST_TICK: u64 = NEVER.div_ceil(TICK);

/// Bits of a tick that choose the slot within one level; a level's occupancy is one `u64`.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 7;

/// Bits of a tick that the levels tell apart; the bits above them number the eras, each
/// 139 years long.
const ERA_SHIFT: u32 = SLOT_BITS * LEVELS as u32;

/// The slots of all levels come first, then the lists that belong to no level.
const FAR: usize = SLOTS * LEVELS;
const PAST: usize = FAR + 1;
const DUE: usize = FAR + 2;
const LISTS: usize = FAR + 3;

/// Empty spots that a list may have for each entry, and may have anyhow, before it is gone
/// through.
/// More would be memory; with fewer, whoever cancels would go through lists more often.
const EMPTY_SHARE: u32 = 3;
const EMPTY_LEAST: u32 = 16 * SPOTS as u32;

/// A hierarchical timer wheel with a resolution of one millisecond.
///
/// # Levels
///
/// A tick is a millisecond. An entry for time `t` is filed under the first whole tick at
/// or after `t`, on the level of the highest six-bit digit in which that tick differs from
/// the tick the wheel stands on:
///
/// | level | one slot spans | the level reaches |
/// |-------|----------------|-------------------|
/// | 0     | 1 ms           | 64 ms             |
/// | 1     | 64 ms          | 4.1 s             |
/// | 2     | 4.1 s          | 4 min 22 s        |
/// | 3     | 4 min 22 s     | 4 h 40 min        |
/// | 4     | 4 h 40 min     | 12.4 days         |
/// | 5     | 12.4 days      | 2.2 years         |
/// | 6     | 2.2 years      | 139 years         |
/// | far   | one list       | the rest of time  |
///
/// When the wheel reaches the first tick of a slot it spreads (cascades) the slot's entries
/// over the levels below. Two things follow from filing by digits, and the code relies on
/// both: everything on a level is earlier than everything on the levels above it, and where
/// an entry stands depends on nothing but its tick and the wheel's.
///
/// # When an entry fires
///
/// Never early. An entry for `t` fires at the first [`advance`](Self::advance) to the whole
/// tick at or after `t`: less than one tick late if `advance` is called when
/// [`next`](Self::next) says. An entry whose time has already come when it is inserted or
/// refiled fires at the next `advance`, whatever its argument (unless that goes backwards).
/// An entry for [`NEVER`] fires when the wheel is advanced to `NEVER`.
///
/// # Ties
///
/// Entries fire in the order of their ticks; those of one tick in the order of insertion,
/// and refiling is a new insertion. An entry whose time has already come counts for the
/// tick the wheel stands on: such entries fire in the order of insertion, before all that
/// become due with them. No sequence number is needed: entries of one tick always stand in the same
/// list, lists grow at the back, and a cascade walks from the front.
///
/// # Where an entry is
///
/// What is known of an entry is in its node, and a list is a row of the numbers of nodes, four
/// bytes each. Taking an entry out empties its spot in that row. With a million entries almost
/// every look at a node is one into far memory; so a cancel makes one such look and a nearer
/// one, where a list linked through its nodes would take three, and whoever goes through a list
/// knows all nodes in advance, instead of each from the one before.
///
/// A list whose last entry is taken out is given up at once. One with more empty spots than
/// [`EMPTY_SHARE`] for each entry, and than [`EMPTY_LEAST`], is gone through and written anew.
///
/// # Costs
///
/// | call                              | cost                                          |
/// |-----------------------------------|-----------------------------------------------|
/// | `insert`, `at`                    | constant                                      |
/// | `cancel`, `refile`                | constant on average, see above                |
/// | `next`                            | one word per level                            |
/// | `advance`                         | entries fired and cascaded, not time elapsed  |
/// | `pop_due`                         | constant on average                           |
///
/// Once filed, an entry cascades at most once per level, and on the far list once per era
/// of 139 years. An entry takes 24 bytes for its node and 4 for its spot, and empty spots are
/// bounded as above; both are used again. The memory is that of the highest number of entries
/// ever held at once.
///
/// # Entries
///
/// An [`Entry`] is a bare index without a generation. It is void once `cancel` has taken it
/// or `pop_due` has handed it out, and its node may serve another entry at once: the owner
/// forgets it there and then.
pub(crate) struct Wheel {
    /// The latest time the wheel was advanced to.
    now: Nanos,
    /// The last whole tick at or before `now`; while `advance` runs, the tick it has reached.
    tick: u64,
    /// One bit per slot that is not empty, one word per level.
    occupied: [u64; LEVELS],
    lists: Box<[List; LISTS]>,
    chunks: Chunks,
    nodes: Vec<Node>,
    /// The first of the chain of unused nodes.
    free: Place,
    len: usize,
    /// What was found when somebody asked for the next time to look, and whether a list has
    /// another earliest time since.
    next: Option<Nanos>,
    changed: bool,
}

/// Names one entry of a [`Wheel`] for as long as the entry is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry(NonZeroU32);

/// Their options are no larger.
impl Entry {
    fn of(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(self) -> u32 {
        self.0.get() - 1
    }
}

impl Wheel {
    /// An empty wheel that stands at time zero.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::with_room(0)
    }

    /// The same, with room from the start for so many entries.
    pub(crate) fn with_room(room: usize) -> Self {
        Self {
            now: 0,
            tick: 0,
            occupied: [0; LEVELS],
            lists: Box::new([List::EMPTY; LISTS]),
            chunks: Chunks::with_room(room),
            nodes: Vec::with_capacity(room),
            free: Place::END,
            len: 0,
            next: None,
            changed: false,
        }
    }

    /// Files `token` to fire at `at`; if that time has come, at the next `advance`.
    pub(crate) fn insert(&mut self, at: Nanos, token: Token) -> Entry {
        let list = self.list_of_new(at);
        let index = self.free.next().unwrap_or(self.nodes.len() as u32);
        let node = Node {
            at,
            token,
            spot: self.append(list, index, at),
            place: Place::on(list),
        };
        match self.nodes.get_mut(index as usize) {
            Some(unused) => {
                self.free = unused.place;
                *unused = node;
            }
            None => self.nodes.push(node),
        }
        self.len += 1;
        Entry::of(index)
    }

    /// Takes the entry out, also when it is due and not yet popped. It is void from now on.
    pub(crate) fn cancel(&mut self, entry: Entry) {
        if self.is_live(entry) {
            let (spot, list) = self.release(entry.index());
            self.strike(spot, list);
        }
    }

    /// Gives the entry another time, as if it were cancelled and inserted again. An entry
    /// that is due and not yet popped will not be popped in this round.
    pub(crate) fn refile(&mut self, entry: Entry, at: Nanos) {
        if self.is_live(entry) {
            let index = entry.index();
            let Node { spot, place, .. } = *self.node(index);
            self.strike(spot, place.list());
            let list = self.list_of_new(at);
            let spot = self.append(list, index, at);
            let node = self.node_mut(index);
            (node.at, node.spot, node.place) = (at, spot, Place::on(list));
        }
    }

    /// The time the entry was last filed for, to the nanosecond.
    pub(crate) fn at(&self, entry: Entry) -> Nanos {
        debug_assert!(
            !self.node(entry.index()).place.is_unused(),
            "a void entry was asked for"
        );
        self.node(entry.index()).at
    }

    /// When to call [`advance`](Self::advance) next; `None` if the wheel is empty.
    ///
    /// This is the tick of the earliest entry. It may be too soon after that entry was
    /// cancelled or refiled; an `advance` that then fires nothing cascades instead, so there
    /// are at most a handful of such wake-ups in a row, and never one per tick. If anything
    /// is due or its time has come, this is the time the wheel stands at.
    pub(crate) fn next(&mut self) -> Option<Nanos> {
        if !self.list(DUE).is_empty() || !self.list(PAST).is_empty() {
            return Some(self.now);
        }
        if self.changed {
            self.changed = false;
            self.next = self
                .first_slot()
                .map(|(list, _)| time_of(tick_after(self.list(list).earliest)));
        }
        self.next
    }

    /// Moves the wheel to `now` and everything whose time has come to the due list, from
    /// which [`pop_due`](Self::pop_due) takes it. What is still there from the last round
    /// stays in front. A `now` before the latest one does nothing.
    pub(crate) fn advance(&mut self, now: Nanos) {
        if now < self.now {
            return;
        }
        self.now = now;
        if !self.list(PAST).is_empty() {
            self.spread(PAST);
        }
        let target = tick_reached(now);
        // Most turns of a busy loop begin within the tick of the one before.
        if target == self.tick {
            return;
        }
        while let Some((list, start)) = self.first_slot()
            && start <= target
        {
            self.tick = start;
            self.spread(list);
        }
        // What is left begins after `target` and shares every higher digit with it, so it
        // already stands where it would be filed now.
        self.tick = target;
    }

    /// Takes the first due entry out and hands it over; the `Entry` is void from now on.
    /// Entries inserted or refiled since the last `advance` are not among them.
    pub(crate) fn pop_due(&mut self) -> Option<(Entry, Token)> {
        let index = self.chunks.pop(&mut self.lists[DUE])?;
        let token = self.node(index).token;
        self.release(index);
        let due = self.list_mut(DUE);
        due.live -= 1;
        if due.is_empty() {
            self.give_up(DUE);
        }
        Some((Entry::of(index), token))
    }

    /// Whether [`pop_due`](Self::pop_due) would answer an entry.
    pub(crate) fn is_due(&self) -> bool {
        !self.list(DUE).is_empty()
    }

    /// Entries in the wheel, those due and not yet popped included.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests look inside"))]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "the tests look inside"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A void entry is a bug of its owner: loud in a debug build, without effect otherwise.
    fn is_live(&self, entry: Entry) -> bool {
        let live = !self.node(entry.index()).place.is_unused();
        debug_assert!(live, "a void entry was used");
        live
    }

    /// The earliest slot that is not empty and the tick on which it begins, which is later
    /// than the wheel's. Past the last level: the far list and the next era.
    fn first_slot(&self) -> Option<(usize, u64)> {
        for (level, &bits) in self.occupied.iter().enumerate() {
            if bits != 0 {
                let slot = bits.trailing_zeros() as usize;
                return Some((level * SLOTS + slot, slot_start(self.tick, level, slot)));
            }
        }
        let next_era = ((self.tick >> ERA_SHIFT) + 1) << ERA_SHIFT;
        (!self.list(FAR).is_empty()).then_some((FAR, next_era))
    }

    /// Files the entries of one list anew, from the front, now that the wheel's tick moved.
    fn spread(&mut self, list: usize) {
        let entries = self.take(list);
        self.sift(entries, (list == PAST).then_some(DUE));
    }

    /// Files some entries, in order: on one list, or each on the one that follows from its time.
    fn sift(&mut self, mut entries: List, to: Option<usize>) {
        let (mut gathered, mut times) = ([0; SPOTS], [NEVER; SPOTS]);
        while let Some(chunk) = self.chunks.take_first(&mut entries) {
            let numbers = chunk.numbers(&mut gathered);
            // All nodes are looked at before anything is done about one, so that none of these
            // looks waits for another.
            for (time, &index) in times.iter_mut().zip(numbers) {
                *time = self.node(index).at;
            }
            for (&at, &index) in times.iter().zip(numbers) {
                let list = to.unwrap_or_else(|| self.list_at(tick_after(at)));
                let spot = self.append(list, index, at);
                let node = self.node_mut(index);
                (node.spot, node.place) = (spot, Place::on(list));
            }
        }
    }

    fn list_of_new(&self, at: Nanos) -> usize {
        if at <= self.now {
            PAST
        } else {
            self.slot_of(tick_after(at))
        }
    }

    /// Where an entry for any tick belongs.
    fn list_at(&self, tick: u64) -> usize {
        if tick <= self.tick {
            DUE
        } else {
            self.slot_of(tick)
        }
    }

    /// Where an entry for a tick after the wheel's belongs.
    fn slot_of(&self, tick: u64) -> usize {
        debug_assert!(tick > self.tick);
        let highest_difference = (tick ^ self.tick).ilog2();
        let level = highest_difference / SLOT_BITS;
        if level as usize >= LEVELS {
            return FAR;
        }
        let slot = (tick >> (level * SLOT_BITS)) as usize % SLOTS;
        level as usize * SLOTS + slot
    }

    /// Empties a list, and hands over what was in it.
    fn take(&mut self, list: usize) -> List {
        self.changed = true;
        self.mark_empty(list);
        std::mem::replace(self.list_mut(list), List::EMPTY)
    }

    /// Appends an entry, whose node is to remember the spot.
    fn append(&mut self, number: usize, index: u32, at: Nanos) -> Spot {
        let list = &mut self.lists[number];
        if list.is_empty() || at < list.earliest {
            list.earliest = at;
            self.changed = true;
            if let Some(bits) = self.occupied.get_mut(number / SLOTS) {
                *bits |= 1 << (number % SLOTS);
            }
        }
        self.chunks.push(list, index)
    }

    /// Takes an entry off its list.
    fn strike(&mut self, spot: Spot, number: usize) {
        self.chunks.strike(spot);
        let list = &mut self.lists[number];
        list.live -= 1;
        list.struck += 1;
        if list.live == 0 {
            self.give_up(number);
        } else if list.struck > EMPTY_LEAST && list.struck / EMPTY_SHARE > list.live {
            let entries = self.take(number);
            self.sift(entries, Some(number));
        }
    }

    /// A list without an entry: what is left are empty spots.
    fn give_up(&mut self, number: usize) {
        self.changed = true;
        self.mark_empty(number);
        self.chunks.clear(&mut self.lists[number]);
    }

    /// Gives the node of an entry back; answers where the entry stands, or stood.
    fn release(&mut self, index: u32) -> (Spot, usize) {
        self.len -= 1;
        let next = std::mem::replace(&mut self.free, Place::unused(index));
        let node = self.node_mut(index);
        let place = std::mem::replace(&mut node.place, next);
        (node.spot, place.list())
    }

    fn mark_empty(&mut self, list: usize) {
        if let Some(bits) = self.occupied.get_mut(list / SLOTS) {
            *bits &= !(1 << (list % SLOTS));
        }
    }

    fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    fn node_mut(&mut self, index: u32) -> &mut Node {
        &mut self.nodes[index as usize]
    }

    fn list(&self, list: usize) -> &List {
        &self.lists[list]
    }

    fn list_mut(&mut self, list: usize) -> &mut List {
        &mut self.lists[list]
    }
}

/// One entry, or one unused place for it.
struct Node {
    at: Nanos,
    token: Token,
    /// Where on its list its number stands.
    spot: Spot,
    place: Place,
}

/// A million of them are a normal day.
const _: () = assert!(size_of::<Node>() == 24);

/// What a node is used for: the number of the list that it is on, or that of the next unused
/// node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place(u32);

impl Place {
    /// Unused, and there is no other. No node has the number that would stand here.
    const END: Self = Self(u32::MAX);
    const UNUSED: u32 = 1 << 31;

    fn on(list: usize) -> Self {
        Self(list as u32)
    }

    fn unused(next: u32) -> Self {
        Self(Self::UNUSED | next)
    }

    fn is_unused(self) -> bool {
        self.0 & Self::UNUSED != 0
    }

    fn list(self) -> usize {
        self.0 as usize
    }

    fn next(self) -> Option<u32> {
        (self != Self::END).then_some(self.0 & !Self::UNUSED)
    }
}

/// The first tick that is not before `at`.
fn tick_after(at: Nanos) -> u64 {
    at.div_ceil(TICK)
}

/// The last tick that has come at `now`. The last tick of all is cut short by [`NEVER`].
fn tick_reached(now: Nanos) -> u64 {
    if now == NEVER { LAST_TICK } else { now / TICK }
}

fn time_of(tick: u64) -> Nanos {
    tick.saturating_mul(TICK)
}

/// The first tick of a slot on the turn of its level that holds `tick`.
fn slot_start(tick: u64, level: usize, slot: usize) -> u64 {
    let shift = SLOT_BITS * level as u32;
    let turn = tick >> (shift + SLOT_BITS);
    ((turn << SLOT_BITS) | slot as u64) << shift
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = TICK;
    const SECOND: Nanos = 1_000 * MS;
    const HOUR: Nanos = 3_600 * SECOND;
    const YEAR: Nanos = 8_766 * HOUR;

    /// Wake-ups without a firing that may follow each other: one for each level and each era.
    const MOST_IDLE_WAKE_UPS: usize = LEVELS + (LAST_TICK >> ERA_SHIFT) as usize;

    /// No token is zero, and no number in these tests is this.
    const NOT_ZERO: u64 = 1 << 63;

    fn token(number: u64) -> Token {
        Token::from_bits(number ^ NOT_ZERO)
    }

    /// The same the other way round: no token is zero.
    fn number(token: Token) -> u64 {
        token.bits() ^ NOT_ZERO
    }

    fn insert(wheel: &mut Wheel, at: Nanos, number: u64) -> Entry {
        wheel.insert(at, token(number))
    }

    fn pop_all(wheel: &mut Wheel) -> Vec<u64> {
        std::iter::from_fn(|| wheel.pop_due())
            .map(|(_, token)| number(token))
            .collect()
    }

    fn fired_at(wheel: &mut Wheel, now: Nanos) -> Vec<u64> {
        wheel.advance(now);
        pop_all(wheel)
    }

    #[test]
    fn a_new_wheel_is_empty_and_asks_for_nothing() {
        let mut wheel = Wheel::new();
        assert!(wheel.is_empty());
        assert_eq!(wheel.len(), 0);
        assert_eq!(wheel.next(), None);
        assert_eq!(fired_at(&mut wheel, NEVER), []);
    }

    #[test]
    fn an_entry_never_fires_early_and_fires_on_the_next_whole_tick() {
        for at in [1, MS - 1, MS, MS + 1, 64 * MS, 5 * SECOND + 7, 3 * YEAR + 1] {
            let mut wheel = Wheel::new();
            insert(&mut wheel, at, 1);
            let tick = at.next_multiple_of(MS);
            assert_eq!(wheel.next(), Some(tick));
            assert_eq!(fired_at(&mut wheel, at - 1), [], "{at}");
            assert_eq!(fired_at(&mut wheel, tick - 1), [], "{at}");
            assert_eq!(fired_at(&mut wheel, tick), [1], "{at}");
        }
    }

    #[test]
    fn a_time_that_has_come_fires_at_the_next_advance_even_if_no_time_passes() {
        let mut wheel = Wheel::new();
        insert(&mut wheel, 0, 1);
        assert_eq!(wheel.next(), Some(0));
        assert_eq!(fired_at(&mut wheel, 0), [1]);

        let now = 10 * MS + 700;
        wheel.advance(now);
        insert(&mut wheel, now, 2);
        insert(&mut wheel, now - 1, 3);
        insert(&mut wheel, 0, 4);
        assert_eq!(wheel.next(), Some(now));
        assert_eq!(fired_at(&mut wheel, now), [2, 3, 4]);
    }

    #[test]
    fn entries_fire_in_the_order_of_their_ticks() {
        let mut wheel = Wheel::new();
        let times = [YEAR, 3 * MS, HOUR, 200 * YEAR, MS, SECOND, 70 * MS];
        for at in times {
            insert(&mut wheel, at, at);
        }
        let mut sorted = times;
        sorted.sort_unstable();
        assert_eq!(fired_at(&mut wheel, NEVER), sorted);
    }

    #[test]
    fn ties_fire_in_the_order_of_insertion_whatever_level_they_came_from() {
        let at = 150 * YEAR;
        let mut wheel = Wheel::new();
        let mut expected = Vec::new();
        // From the far list down to level 0: each remainder is a level below the last.
        let remainders = [
            150 * YEAR,
            100 * YEAR,
            YEAR,
            100 * HOUR,
            HOUR,
            100 * SECOND,
            SECOND,
            20 * MS,
            MS,
        ];
        for (step, remainder) in remainders.into_iter().enumerate() {
            wheel.advance(at - remainder);
            for tie in 0..3 {
                // Any time within the same tick ties.
                let number = step as u64 * 3 + tie;
                insert(&mut wheel, at.next_multiple_of(MS) - (2 - tie), number);
                expected.push(number);
            }
        }
        assert_eq!(fired_at(&mut wheel, at + MS), expected);
    }

    #[test]
    fn refiling_is_a_new_insertion_among_ties() {
        let mut wheel = Wheel::new();
        let first = insert(&mut wheel, SECOND, 1);
        insert(&mut wheel, SECOND, 2);
        wheel.refile(first, SECOND);
        assert_eq!(fired_at(&mut wheel, SECOND), [2, 1]);
    }

    #[test]
    fn refiling_moves_an_entry_both_ways() {
        let mut wheel = Wheel::new();
        let later = insert(&mut wheel, SECOND, 1);
        let sooner = insert(&mut wheel, HOUR, 2);
        wheel.refile(later, HOUR);
        wheel.refile(sooner, SECOND);
        assert_eq!(wheel.at(later), HOUR);
        assert_eq!(wheel.at(sooner), SECOND);
        assert_eq!(wheel.len(), 2);
        assert_eq!(fired_at(&mut wheel, SECOND), [2]);
        assert_eq!(fired_at(&mut wheel, HOUR), [1]);
    }

    #[test]
    fn a_cancelled_entry_does_not_fire() {
        let mut wheel = Wheel::new();
        let entries: Vec<_> = (0..5).map(|n| insert(&mut wheel, SECOND, n)).collect();
        for index in [0, 2, 4] {
            wheel.cancel(entries[index]);
        }
        assert_eq!(wheel.len(), 2);
        assert_eq!(fired_at(&mut wheel, SECOND), [1, 3]);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next(), None);
    }

    /// How many empty spots the only list in use has when so many of its entries are cancelled.
    fn struck(entries: u64, cancelled: usize) -> u32 {
        let mut wheel = Wheel::new();
        let all: Vec<_> = (0..entries)
            .map(|n| insert(&mut wheel, SECOND, n))
            .collect();
        all[..cancelled].iter().for_each(|&it| wheel.cancel(it));
        assert_eq!(wheel.len(), all.len() - cancelled);
        wheel.lists.iter().map(|list| list.struck).sum()
    }

    #[test]
    fn a_list_is_gone_through_when_most_of_it_is_empty_and_no_sooner() {
        // Sixteen chunks full may be empty in any case.
        let few = 16 * SPOTS;
        assert_eq!(struck(few as u64 + 8, few), few as u32);
        assert_eq!(struck(few as u64 + 8, few + 1), 0);
        // Of more, three quarters.
        assert_eq!(struck(4000, 3000), 3000);
        assert_eq!(struck(4000, 3001), 0);
    }

    #[test]
    fn an_entry_is_due_from_its_time_until_it_is_popped_or_cancelled() {
        let mut wheel = Wheel::new();
        let entries: Vec<_> = (0..2).map(|n| insert(&mut wheel, SECOND, n)).collect();
        wheel.advance(SECOND - 1);
        assert!(!wheel.is_due());
        wheel.advance(SECOND);
        assert!(wheel.is_due());
        assert!(wheel.pop_due().is_some() && wheel.is_due());
        wheel.cancel(entries[1]);
        assert!(!wheel.is_due());
    }

    #[test]
    fn a_due_entry_can_still_be_cancelled_or_refiled() {
        let mut wheel = Wheel::new();
        let entries: Vec<_> = (0..5).map(|n| insert(&mut wheel, SECOND, n)).collect();
        wheel.advance(SECOND);
        assert_eq!(wheel.pop_due(), Some((entries[0], token(0))));
        wheel.cancel(entries[1]);
        wheel.refile(entries[2], 2 * SECOND);
        wheel.refile(entries[3], 0);
        assert_eq!(pop_all(&mut wheel), [4]);
        assert_eq!(fired_at(&mut wheel, SECOND), [3]);
        assert_eq!(fired_at(&mut wheel, 2 * SECOND), [2]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn what_is_inserted_while_popping_waits_for_the_next_advance() {
        let mut wheel = Wheel::new();
        insert(&mut wheel, SECOND, 1);
        insert(&mut wheel, SECOND, 2);
        wheel.advance(SECOND);
        let mut popped = Vec::new();
        while let Some((_, token)) = wheel.pop_due() {
            popped.push(number(token));
            insert(&mut wheel, 0, 10 + number(token));
        }
        assert_eq!(popped, [1, 2]);
        assert_eq!(wheel.len(), 2);
        assert_eq!(wheel.next(), Some(SECOND));
        assert_eq!(fired_at(&mut wheel, SECOND), [11, 12]);
    }

    #[test]
    fn what_was_not_popped_stays_in_front() {
        let mut wheel = Wheel::new();
        insert(&mut wheel, SECOND, 1);
        insert(&mut wheel, 2 * SECOND, 2);
        wheel.advance(SECOND);
        insert(&mut wheel, 0, 3);
        assert_eq!(wheel.next(), Some(SECOND));
        assert_eq!(fired_at(&mut wheel, 2 * SECOND), [1, 3, 2]);
    }

    #[test]
    fn going_backwards_does_nothing() {
        let mut wheel = Wheel::new();
        wheel.advance(10 * MS + 500);
        insert(&mut wheel, 10 * MS + 400, 1);
        insert(&mut wheel, 11 * MS, 2);
        assert_eq!(fired_at(&mut wheel, 10 * MS + 499), []);
        assert_eq!(fired_at(&mut wheel, 0), []);
        assert_eq!(fired_at(&mut wheel, 10 * MS + 500), [1]);
        assert_eq!(fired_at(&mut wheel, 11 * MS), [2]);
    }

    #[test]
    fn the_end_of_time_is_within_reach() {
        let mut wheel = Wheel::new();
        for at in [NEVER, NEVER - 1, NEVER / 2, NEVER / TICK * TICK] {
            insert(&mut wheel, at, at);
        }
        assert_eq!(fired_at(&mut wheel, NEVER / 2 + MS), [NEVER / 2]);
        assert_eq!(fired_at(&mut wheel, NEVER - 2), [NEVER / TICK * TICK]);
        assert_eq!(wheel.next(), Some(NEVER));
        assert_eq!(fired_at(&mut wheel, NEVER - 1), []);
        assert_eq!(fired_at(&mut wheel, NEVER), [NEVER, NEVER - 1]);
        insert(&mut wheel, NEVER, 1);
        assert_eq!(fired_at(&mut wheel, NEVER), [1]);
    }

    #[test]
    fn an_idle_loop_wakes_once_for_each_timer() {
        let mut wheel = Wheel::new();
        let times = [
            MS,
            65 * MS,
            66 * MS,
            HOUR,
            HOUR + MS,
            YEAR,
            300 * YEAR,
            NEVER - 1,
        ];
        for at in times {
            insert(&mut wheel, at, at);
        }
        for at in times {
            let next = wheel.next().expect("there is one more");
            assert_eq!(next, time_of(tick_after(at)));
            assert_eq!(fired_at(&mut wheel, next), [at]);
        }
    }

    #[test]
    fn a_cancelled_earliest_entry_costs_a_handful_of_wake_ups() {
        let mut wheel = Wheel::new();
        let first = insert(&mut wheel, 300 * YEAR, 1);
        insert(&mut wheel, 301 * YEAR, 2);
        wheel.cancel(first);
        let mut wake_ups = 0;
        while pop_all(&mut wheel).is_empty() {
            let next = wheel.next().expect("the second entry is still there");
            wheel.advance(next);
            wake_ups += 1;
        }
        assert!(wake_ups <= MOST_IDLE_WAKE_UPS, "{wake_ups}");
    }

    #[test]
    fn nodes_are_used_again() {
        let mut wheel = Wheel::new();
        for round in 0..1_000 {
            let cancelled = insert(&mut wheel, HOUR, 0);
            insert(&mut wheel, round * MS, 1);
            wheel.cancel(cancelled);
            assert_eq!(fired_at(&mut wheel, round * MS), [1]);
        }
        assert_eq!(wheel.nodes.len(), 2);
        assert!(wheel.chunks.count().0 <= 4);
    }

    #[test]
    fn what_is_cancelled_or_moved_costs_no_memory_for_long() {
        const KEPT: u64 = 100;
        let mut wheel = Wheel::new();
        let kept: Vec<_> = (0..KEPT).map(|n| insert(&mut wheel, HOUR, n)).collect();
        for round in 0..100_000 {
            let cancelled = insert(&mut wheel, HOUR, KEPT);
            wheel.refile(kept[round % kept.len()], HOUR);
            wheel.cancel(cancelled);
        }
        check_lists(&wheel);
        assert!(wheel.chunks.count().0 < 60, "{:?}", wheel.chunks.count());
        // Each was moved once more in the last round, in this order.
        assert_eq!(fired_at(&mut wheel, HOUR), (0..KEPT).collect::<Vec<_>>());
        assert_eq!(wheel.chunks.count().0, wheel.chunks.count().1);
    }

    #[test]
    fn what_is_due_and_cancelled_in_the_middle_is_passed_over() {
        const MANY: u64 = 200;
        for every in [2, 3, 7, 31, 199] {
            let mut wheel = Wheel::new();
            let entries: Vec<_> = (0..MANY).map(|n| insert(&mut wheel, SECOND, n)).collect();
            wheel.advance(SECOND);
            let mut popped = Vec::new();
            while let Some((_, token)) = wheel.pop_due() {
                let number = number(token);
                popped.push(number);
                let next = number + 1;
                if next < MANY && next.is_multiple_of(every) {
                    wheel.cancel(entries[next as usize]);
                }
                check_lists(&wheel);
            }
            let expected: Vec<_> = (0..MANY)
                .filter(|n| *n == 0 || !n.is_multiple_of(every))
                .collect();
            assert_eq!(popped, expected);
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a void entry was used")]
    fn a_void_entry_is_loud_in_a_debug_build() {
        let mut wheel = Wheel::new();
        let entry = insert(&mut wheel, SECOND, 1);
        wheel.cancel(entry);
        wheel.cancel(entry);
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn a_void_entry_is_without_effect_in_a_release_build() {
        let mut wheel = Wheel::new();
        let entry = insert(&mut wheel, SECOND, 1);
        wheel.cancel(entry);
        wheel.cancel(entry);
        wheel.refile(entry, HOUR);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_million_entries_come_back_in_order() {
        const MANY: u64 = 1_000_000;
        // A multiplier that shares no factor with MANY visits every tick once.
        const STRIDE: u64 = 387_421;
        let mut wheel = Wheel::new();
        for n in 0..MANY {
            let tick = n * STRIDE % MANY;
            insert(&mut wheel, tick * MS, tick);
        }
        wheel.advance(MANY * MS);
        for expected in 0..MANY {
            assert_eq!(
                wheel.pop_due().map(|(_, token)| number(token)),
                Some(expected)
            );
        }
        assert!(wheel.is_empty());
    }

    /// What the wheel must do, written with a sorted map and a look at every entry.
    #[derive(Default)]
    struct Model {
        now: Nanos,
        inserted: u64,
        waiting: BTreeMap<Key, Live>,
        due: BTreeMap<Key, Live>,
    }

    /// Tick, then insertion.
    type Key = (u64, u64);

    #[derive(Clone, Copy)]
    struct Live {
        entry: Entry,
        number: u64,
        at: Nanos,
    }

    impl Model {
        fn insert(&mut self, live: Live) {
            let tick = if live.at <= self.now {
                tick_reached(self.now)
            } else {
                tick_after(live.at)
            };
            self.inserted += 1;
            self.waiting.insert((tick, self.inserted), live);
        }

        fn advance(&mut self, now: Nanos) {
            if now >= self.now {
                self.now = now;
                let later = self.waiting.split_off(&(tick_reached(now) + 1, 0));
                self.due.append(&mut self.waiting);
                self.waiting = later;
            }
        }

        fn pick(&self, choice: usize) -> Option<(Key, Live)> {
            let all = self.waiting.iter().chain(&self.due);
            let choice = choice.checked_rem(self.len())?;
            all.map(|(&key, &live)| (key, live)).nth(choice)
        }

        fn remove(&mut self, choice: usize) -> Option<Live> {
            let (key, live) = self.pick(choice)?;
            self.waiting.remove(&key);
            self.due.remove(&key);
            Some(live)
        }

        fn len(&self) -> usize {
            self.waiting.len() + self.due.len()
        }

        /// The tick on which the earliest waiting entry will be due.
        fn earliest(&self) -> Option<Nanos> {
            let (&(tick, _), _) = self.waiting.first_key_value()?;
            Some(time_of(tick).max(self.now))
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Nanos),
        InsertPast(Nanos),
        /// In the same tick as an entry that is already there.
        InsertTie(usize),
        Cancel(usize),
        Refile(usize, Nanos),
        RefilePast(usize),
        Advance(Nanos),
        GoBack(Nanos),
        Pop(usize),
        Wait,
    }

    /// As many spans between 2^n and 2^(n+1) ns as for any other n below `bits`.
    fn span(bits: u32) -> impl Strategy<Value = Nanos> {
        (0..bits, any::<u64>()).prop_map(|(n, random)| random >> (u64::BITS - 1 - n))
    }

    fn step() -> impl Strategy<Value = Step> {
        const ANY_SPAN: u32 = u64::BITS;
        const DAYS: u32 = 50;
        prop_oneof![
            6 => span(ANY_SPAN).prop_map(Step::Insert),
            1 => span(ANY_SPAN).prop_map(Step::InsertPast),
            5 => any::<usize>().prop_map(Step::InsertTie),
            3 => any::<usize>().prop_map(Step::Cancel),
            3 => (any::<usize>(), span(ANY_SPAN)).prop_map(|(n, s)| Step::Refile(n, s)),
            1 => any::<usize>().prop_map(Step::RefilePast),
            6 => span(DAYS).prop_map(Step::Advance),
            1 => span(ANY_SPAN - 2).prop_map(Step::Advance),
            1 => span(ANY_SPAN).prop_map(Step::GoBack),
            4 => (0..8_usize).prop_map(Step::Pop),
            4 => Just(Step::Wait),
        ]
    }

    #[derive(Default)]
    struct Pair {
        wheel: Wheel,
        model: Model,
        numbers: u64,
    }

    impl Default for Wheel {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Pair {
        fn run(&mut self, step: Step) {
            let now = self.model.now;
            match step {
                Step::Insert(span) => self.insert(now.saturating_add(span)),
                Step::InsertPast(span) => self.insert(now.saturating_sub(span)),
                Step::InsertTie(choice) => {
                    if let Some((_, live)) = self.model.pick(choice) {
                        self.insert(time_of(tick_after(live.at)));
                    }
                }
                Step::Cancel(choice) => {
                    if let Some(live) = self.model.remove(choice) {
                        self.wheel.cancel(live.entry);
                    }
                }
                Step::Refile(choice, span) => self.refile(choice, now.saturating_add(span)),
                Step::RefilePast(choice) => self.refile(choice, 0),
                Step::Advance(span) => self.advance(now.saturating_add(span)),
                Step::GoBack(span) => self.advance(now.saturating_sub(span)),
                Step::Pop(count) => (0..count).for_each(|_| self.pop()),
                Step::Wait => self.wait(),
            }
            self.check();
        }

        fn insert(&mut self, at: Nanos) {
            self.numbers += 1;
            let number = self.numbers;
            let entry = self.wheel.insert(at, token(number));
            self.model.insert(Live { entry, number, at });
        }

        fn refile(&mut self, choice: usize, at: Nanos) {
            if let Some(live) = self.model.remove(choice) {
                self.wheel.refile(live.entry, at);
                self.model.insert(Live { at, ..live });
            }
        }

        fn advance(&mut self, now: Nanos) {
            self.wheel.advance(now);
            self.model.advance(now);
        }

        fn pop(&mut self) {
            let expected = self.model.due.pop_first().map(|(_, live)| live);
            let popped = self.wheel.pop_due();
            assert_eq!(
                popped,
                expected.map(|live| (live.entry, token(live.number)))
            );
            assert!(expected.is_none_or(|live| live.at <= self.model.now));
        }

        /// Sleeps as an idle loop does, until something is due.
        fn wait(&mut self) {
            let mut wake_ups = 0;
            while self.model.due.is_empty()
                && let Some(next) = self.wheel.next()
            {
                self.advance(next);
                wake_ups += 1;
                assert!(wake_ups <= 1 + MOST_IDLE_WAKE_UPS);
            }
        }

        fn check(&mut self) {
            assert_eq!(self.wheel.len(), self.model.len());
            assert_eq!(self.wheel.is_empty(), self.model.len() == 0);
            self.check_next();
            for live in self.model.waiting.values().chain(self.model.due.values()) {
                assert_eq!(self.wheel.at(live.entry), live.at);
                assert_eq!(
                    self.wheel.node(live.entry.index()).token,
                    token(live.number)
                );
            }
            check_lists(&self.wheel);
        }

        fn check_next(&mut self) {
            let now = self.model.now;
            let next = self.wheel.next();
            assert_eq!(next.is_some(), self.model.len() > 0);
            if !self.model.due.is_empty() {
                assert_eq!(next, Some(now));
            } else if let Some(earliest) = self.model.earliest() {
                assert!(next <= Some(earliest), "{next:?} is later than {earliest}");
                // To answer the present when nothing fires then would make the loop spin.
                assert_eq!(next == Some(now), earliest == now);
                if earliest / MS / SLOTS as u64 == now / MS / SLOTS as u64 {
                    assert_eq!(next, Some(earliest), "level 0 is exact");
                }
            }
        }
    }

    /// Every entry stands on the list where it belongs, once, and the lists are announced.
    fn check_lists(wheel: &Wheel) {
        let (mut seen, mut chunks) = (0, 0);
        for number in 0..LISTS {
            let list = wheel.list(number);
            if let Some(bits) = wheel.occupied.get(number / SLOTS) {
                assert_eq!(bits >> (number % SLOTS) & 1 == 0, list.is_empty());
            }
            let (entries, has) = wheel.chunks.all(list);
            chunks += has;
            assert_eq!(entries.len() as u32, list.live);
            assert!(list.struck <= EMPTY_LEAST.max(list.live * EMPTY_SHARE + EMPTY_SHARE));
            assert_eq!(list.is_empty(), has == 0);
            for (index, spot) in entries {
                let node = wheel.node(index);
                assert_eq!(node.spot, spot);
                assert!(!node.place.is_unused());
                assert!(list.earliest <= node.at);
                assert_eq!(node.place, Place::on(number));
                if number < PAST {
                    assert_eq!(wheel.slot_of(tick_after(node.at)), number);
                }
                seen += 1;
            }
        }
        assert_eq!(seen, wheel.len());
        let (all, free) = wheel.chunks.count();
        assert_eq!(all, chunks + free);
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_map(steps in prop::collection::vec(step(), 1..200)) {
            let mut pair = Pair::default();
            for step in steps {
                pair.run(step);
            }
            while pair.model.len() > 0 {
                pair.wait();
                while !pair.model.due.is_empty() {
                    pair.pop();
                }
                pair.check();
            }
        }
    }
}
