//! Sequences of commands on a room, compared with the naive model after each.
#![no_main]

#[path = "../../room_model/check.rs"]
mod check;
#[path = "../../room_model/model.rs"]
mod model;
#[path = "../../room_model/steps.rs"]
mod steps;

use libfuzzer_sys::fuzz_target;
use sessionstore::core::room::Room;
use steps::{small_limits, Expect, Op, Step, Who};

/// One byte a field, so that a small change of the input is a small change of the run.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        self.0.next().copied().unwrap_or(0).into()
    }

    fn optional(&mut self) -> Option<usize> {
        self.next().checked_sub(1)
    }

    fn who(&mut self) -> Who {
        match self.next() {
            n @ 0..=127 => Who::Peer(n % 4),
            n => Who::Handle(n - 128),
        }
    }

    fn step(&mut self) -> Step {
        let op = match self.next() % 10 {
            0 => Op::Join {
                peer: self.next(),
                user: self.next(),
                name: self.optional(),
                metadata: self.optional(),
                role: true,
            },
            1 => Op::Return { peer: self.next(), user: self.next() },
            2 => Op::Leave(self.who()),
            3 => Op::ConnectionLost(self.who()),
            4 => Op::Update { who: self.who(), name: self.optional(), metadata: self.optional() },
            5 => {
                let (who, key, value) = (self.who(), self.next(), self.next());
                let expect = match self.next() {
                    0..=99 => Expect::Nothing,
                    100..=149 => Expect::Current,
                    150..=199 => Expect::Absent,
                    version => Expect::Version(version as u64 - 200),
                };
                Op::Set { who, key, value, expect }
            }
            6 => Op::Get { who: self.who(), key: self.next() },
            7 => Op::Listen { who: self.who(), keys: (0..self.next() % 6).map(|_| self.next()).collect() },
            8 => Op::Tick,
            _ => Op::TickWhenDue,
        };
        let wait = self.next();
        Step { wait: (wait / 2) as u64, tick_first: wait % 2 == 1, op }
    }
}

/// Longer runs find nothing that shorter ones do not, and each step compares everything.
const MOST_STEPS: usize = 100;

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data.iter());
    let limits = small_limits(bytes.next() as u64 % 32, bytes.next() as u64 % 32);
    let mut steps = Vec::new();
    while bytes.0.len() > 0 && steps.len() < MOST_STEPS {
        steps.push(bytes.step());
    }
    if let Err(broken) = check::check(&mut Room::new("lobby", limits.clone().into()), &limits, &steps, None) {
        panic!("{broken}");
    }
});
