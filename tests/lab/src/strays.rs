//! Datagrams that reach a Legion's node and are no announcement of its Legion, or none of today. A node that believed one
//! would give its IP up, or a peer.

use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;

use crate::seal::{Pairs, Secret};

/// The longest datagram that there is.
const LONGEST: usize = 65_507;
/// How old a replayed announcement is, in seconds: older than any `legion-skew-tolerance` here.
const OLD: u64 = 3600;

/// Each is made of an announcement that has just been sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stray {
    /// One byte of its first ones is another one. Further behind uWSGI would not notice, as nothing sums its datagrams up,
    /// and count a node that there is not for as long as its tolerance.
    Damaged,
    /// It ends too early.
    Cut,
    /// It does not end where it should.
    Oversized,
    /// A node that would be Lord, with another secret.
    OtherSecret,
    /// A node that would be Lord, in another Legion with the same secret.
    OtherLegion,
    /// A node that was Lord long ago.
    OldLord,
    /// The farewell of that very node, of long ago.
    OldFarewell,
}

impl Stray {
    pub const ALL: [Stray; 7] = [
        Stray::Damaged,
        Stray::Cut,
        Stray::Oversized,
        Stray::OtherSecret,
        Stray::OtherLegion,
        Stray::OldLord,
        Stray::OldFarewell,
    ];

    /// What is sent, `secret` being the Legion's. `None` where that is no announcement.
    pub fn of(self, announcement: &[u8], secret: &Secret, rng: &mut Rng) -> Option<Vec<u8>> {
        let mut pairs = secret.open(announcement)?;
        let mut bytes = announcement.to_vec();
        Some(match self {
            Stray::Damaged => {
                // Of its kind, its length, or the text's first block, which says the Legion's name. The fourth means nothing.
                let at = if rng.bool() { rng.usize(..3) } else { rng.usize(4..20) };
                bytes[at] ^= rng.u8(1..);
                bytes
            }
            Stray::Cut => {
                bytes.truncate(rng.usize(..bytes.len()));
                bytes
            }
            Stray::Oversized => {
                bytes.resize(LONGEST, 0);
                bytes
            }
            Stray::OtherSecret => {
                make_lord(&mut pairs);
                Secret::new("another").seal(&pairs)
            }
            Stray::OtherLegion => {
                make_lord(&mut pairs);
                set(&mut pairs, "legion", "another");
                secret.seal(&pairs)
            }
            Stray::OldLord => {
                make_lord(&mut pairs);
                make_old(&mut pairs);
                secret.seal(&pairs)
            }
            Stray::OldFarewell => {
                make_old(&mut pairs);
                pairs.push((b"dead".to_vec(), b"1".to_vec()));
                secret.seal(&pairs)
            }
        })
    }
}

/// Another node, which counts more than any.
fn make_lord(pairs: &mut Pairs) {
    set(pairs, "valor", "65535");
    set(pairs, "uuid", "ffffffff-ffff-4fff-bfff-ffffffffffff");
}

fn make_old(pairs: &mut Pairs) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    set(pairs, "unix", &(now - OLD).to_string());
}

fn set(pairs: &mut Pairs, key: &str, value: &str) {
    for (_, old) in pairs.iter_mut().filter(|(known, _)| known == key.as_bytes()) {
        *old = value.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_is_another_datagram_than_what_it_is_made_of() {
        let secret = Secret::new("secret1");
        let pairs = ["legion", "valor", "unix", "uuid"].map(|key| (key.into(), b"1".to_vec()));
        let announcement = secret.seal(&pairs.to_vec());
        let mut rng = Rng::with_seed(1);
        for stray in Stray::ALL {
            let made = stray.of(&announcement, &secret, &mut rng).expect("it is an announcement");
            assert_ne!(made, announcement, "{stray:?}");
            assert!(made.len() <= LONGEST);
            assert_eq!(stray.of(b"hello", &secret, &mut rng), None);
        }
        let opened = |stray: Stray| {
            secret.open(&stray.of(&announcement, &secret, &mut Rng::new()).unwrap()).unwrap_or_default()
        };
        let says = |stray, key: &str, value: &str| {
            opened(stray).contains(&(key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        };
        assert!(says(Stray::OtherLegion, "legion", "another") && says(Stray::OtherLegion, "valor", "65535"));
        assert!(says(Stray::OldLord, "valor", "65535") && !says(Stray::OldLord, "unix", "1"));
        assert!(says(Stray::OldFarewell, "dead", "1") && says(Stray::OldFarewell, "uuid", "1"));
        assert!(!says(Stray::OtherSecret, "valor", "65535"));
    }
}
