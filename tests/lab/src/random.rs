//! Random input for tests, and always the same: what is new is for `make fuzz` to find.

use fastrand::Rng;

/// Random numbers from $SEED (`make test SEED=7`), or from 1. A test that fails shows which it was.
pub fn rng() -> Rng {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a whole number"));
    println!("SEED={seed}");
    Rng::with_seed(seed)
}

/// One of them.
pub fn one<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// Makes one to three changes of some bytes. `words` are what may be put in, beside any byte.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, words: &[&str]) {
    for _ in 0..rng.usize(1..=3) {
        let from = rng.usize(..=bytes.len());
        let to = (from + rng.usize(..=8)).min(bytes.len());
        match rng.u8(..16) {
            0 => bytes.truncate(from),
            1..4 => drop(bytes.drain(from..to)),
            4..6 => bytes.splice(from..to, [rng.u8(..)]).for_each(drop),
            6..8 => bytes.insert(from, rng.u8(..)),
            8..10 => {
                let again = bytes[from..to].to_vec();
                bytes.splice(from..from, again).for_each(drop);
            }
            10..12 => bytes.splice(from..from, one(rng, words).bytes()).for_each(drop),
            _ => bytes.extend(one(rng, words).bytes()),
        }
    }
}

/// One input, shown if the test fails with it.
pub struct Case<'a>(pub &'a [u8]);

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("it failed with: {}", self.0.escape_ascii());
        }
    }
}
