//! What a node announces about itself to its Legion, written and read as uWSGI's core/legion.c does it.
//!
//! A datagram is a header of four bytes (the kind, the length of the text, a zero) and the text, which is sent encrypted
//! with the Legion's secret. The text is a list of keys and values, each after its length.

use super::legion::Uuid;

/// The kind of uWSGI packet that a Legion sends.
const KIND: u8 = 109;

/// The fields are in the order in which uWSGI writes them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement<'a> {
    pub legion: &'a [u8],
    pub valor: u64,
    /// When it was sent: Unix time (seconds) by the sender's clock.
    pub unix: i64,
    /// Since when the node has been Lord; 0 if it is not.
    pub lord: i64,
    pub name: &'a [u8],
    pub pid: i32,
    pub uuid: Uuid,
    pub checksum: u64,
    pub lord_valor: u64,
    pub lord_uuid: Uuid,
    pub scroll: &'a [u8],
    pub dead: bool,
}

impl<'a> Announcement<'a> {
    /// What uWSGI takes a missing pair for.
    pub const EMPTY: Announcement<'static> = Announcement {
        legion: b"",
        valor: 0,
        unix: 0,
        lord: 0,
        name: b"",
        pid: 0,
        uuid: [0; 36],
        checksum: 0,
        lord_valor: 0,
        lord_uuid: [0; 36],
        scroll: b"",
        dead: false,
    };

    /// Reads a datagram whose text is decrypted. `None` if it is not an announcement of this Legion, or was sent before
    /// `oldest`. As in uWSGI, the last of two pairs with the same key counts, and unknown keys and uuids of another length
    /// are ignored. But uWSGI reads a number from any text; here a value that is not a number makes the datagram invalid.
    pub fn read(datagram: &'a [u8], legion: &[u8], oldest: i64) -> Option<Announcement<'a>> {
        let [KIND, low, high, _, text @ ..] = datagram else { return None };
        if text.len() != usize::from(u16::from_le_bytes([*low, *high])) {
            return None;
        }
        let said = Announcement::read_pairs(text)?;
        // uWSGI does not accept a node without a name.
        (said.legion == legion && said.unix >= oldest && !said.name.is_empty()).then_some(said)
    }

    fn read_pairs(mut text: &'a [u8]) -> Option<Announcement<'a>> {
        let mut said = Announcement::EMPTY;
        while !text.is_empty() {
            let key = take(&mut text).filter(|key| !key.is_empty())?;
            let value = take(&mut text)?;
            match key {
                b"legion" => said.legion = value,
                b"valor" => said.valor = number(value)?,
                b"unix" => said.unix = number(value)?,
                b"lord" => said.lord = number(value)?,
                b"name" => said.name = value,
                b"pid" => said.pid = number(value)?,
                b"uuid" => said.uuid = value.try_into().unwrap_or(said.uuid),
                b"checksum" => said.checksum = number(value)?,
                b"lord_valor" => said.lord_valor = number(value)?,
                b"lord_uuid" => said.lord_uuid = value.try_into().unwrap_or(said.lord_uuid),
                b"scroll" => said.scroll = value,
                b"dead" => said.dead = true,
                _ => {}
            }
        }
        Some(said)
    }

    /// The datagram, not encrypted yet. `None` if it would be too long.
    pub fn write(&self) -> Option<Vec<u8>> {
        let mut datagram = vec![KIND, 0, 0, 0];
        let mut put = |key: &str, value: &[u8]| {
            for part in [key.as_bytes(), value] {
                datagram.extend(u16::try_from(part.len()).ok()?.to_le_bytes());
                datagram.extend(part);
            }
            Some(())
        };
        put("legion", self.legion)?;
        put("valor", self.valor.to_string().as_bytes())?;
        put("unix", self.unix.to_string().as_bytes())?;
        put("lord", self.lord.to_string().as_bytes())?;
        put("name", self.name)?;
        put("pid", self.pid.to_string().as_bytes())?;
        put("uuid", &self.uuid)?;
        put("checksum", self.checksum.to_string().as_bytes())?;
        put("lord_valor", self.lord_valor.to_string().as_bytes())?;
        put("lord_uuid", &self.lord_uuid)?;
        if !self.scroll.is_empty() {
            put("scroll", self.scroll)?;
        }
        if self.dead {
            put("dead", b"1")?;
        }
        let length = u16::try_from(datagram.len() - 4).ok()?;
        datagram[1..3].copy_from_slice(&length.to_le_bytes());
        Some(datagram)
    }
}

/// Takes a key or a value off `text`: its length in two bytes, low byte first, then the bytes.
fn take<'a>(text: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = text.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    *text = rest;
    Some(part)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    // parse() alone would accept a sign.
    let digits = digits.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(digits).ok())??;
    digits.parse().ok()
}

#[cfg(any(test, feature = "fuzz"))]
pub mod properties {
    use super::*;

    const LEGION: &[u8] = b"site";
    const OLDEST: i64 = 1_700_000_000;

    /// Checks what must hold for every datagram.
    pub fn check(datagram: &[u8]) {
        let said = Announcement::read(datagram, LEGION, OLDEST);
        let pairs = model(datagram).unwrap_or_default();
        let last = |key: &str| pairs.iter().rfind(|(known, _)| *known == key.as_bytes()).map(|pair| pair.1);
        let has = |key: &str, most: u128| {
            let all = pairs.iter().filter(|(known, _)| *known == key.as_bytes());
            all.map(|pair| digits(pair.1)).all(|number| number.is_some_and(|number| number <= most))
        };
        let (most, most_signed) = (u64::MAX.into(), i64::MAX as u128);
        let numbers = has("valor", most) && has("checksum", most) && has("lord_valor", most);
        let signed = has("unix", most_signed) && has("lord", most_signed) && has("pid", i32::MAX as u128);
        let unix = last("unix").and_then(digits).unwrap_or_default();
        let counts = last("legion") == Some(LEGION) && last("name").is_some_and(|name| !name.is_empty());
        assert_eq!(said.is_some(), numbers && signed && counts && unix >= OLDEST as u128);
        let Some(said) = said else { return };
        let mut uuids = pairs.iter().filter(|(key, value)| *key == b"uuid" && value.len() == 36);
        assert_eq!(said.uuid.as_slice(), uuids.next_back().map_or(&[0; 36][..], |pair| pair.1));
        assert_eq!(u128::from(said.valor), last("valor").and_then(digits).unwrap_or_default());
        assert_eq!(said.dead, last("dead").is_some());
        // Written again, it is read as the same.
        if let Some(written) = said.write() {
            assert_eq!(Announcement::read(&written, LEGION, OLDEST), Some(said));
        }
    }

    /// The pairs, as uWSGI's `uwsgi_hooked_parse` finds them.
    fn model(datagram: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
        let number =
            |at: usize| Some(usize::from(*datagram.get(at)?) + 256 * usize::from(*datagram.get(at + 1)?));
        if datagram.len() < 4 || datagram[0] != KIND || number(1)? != datagram.len() - 4 {
            return None;
        }
        let (mut pairs, mut at) = (Vec::new(), 4);
        while at < datagram.len() {
            let key = datagram.get(at + 2..at + 2 + number(at)?).filter(|key| !key.is_empty())?;
            at += 2 + key.len();
            let value = datagram.get(at + 2..at + 2 + number(at)?)?;
            at += 2 + value.len();
            pairs.push((key, value));
        }
        Some(pairs)
    }

    fn digits(text: &[u8]) -> Option<u128> {
        let add = |sum: u128, digit: &u8| {
            digit.is_ascii_digit().then(|| sum.saturating_mul(10).saturating_add((digit - b'0').into()))
        };
        if text.is_empty() { None } else { text.iter().try_fold(0, add) }
    }
}

#[cfg(test)]
mod tests {
    use lab::random::{Case, mutate, one, rng};

    use super::*;

    const NOW: i64 = 1_700_000_100;
    const UUID: Uuid = *b"5e3b0d4e-7c4b-4f0e-9b59-0c3f3f9f6c11";

    fn node() -> Announcement<'static> {
        Announcement {
            legion: b"site",
            valor: 3,
            unix: NOW,
            lord: 1_700_000_000,
            name: b"web1",
            pid: 77,
            uuid: UUID,
            checksum: u64::MAX,
            lord_valor: 2,
            lord_uuid: *b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ..Announcement::EMPTY
        }
    }

    fn read(datagram: &[u8]) -> Option<Announcement<'_>> {
        Announcement::read(datagram, b"site", NOW - 60)
    }

    fn with_header(text: &[u8]) -> Vec<u8> {
        let [low, high] = u16::try_from(text.len()).unwrap().to_le_bytes();
        [&[KIND, low, high, 0], text].concat()
    }

    /// A datagram with these pairs, whatever they are.
    fn datagram(pairs: &[(&str, &[u8])]) -> Vec<u8> {
        let mut text = Vec::new();
        for part in pairs.iter().flat_map(|(key, value)| [key.as_bytes(), value]) {
            text.extend(u16::try_from(part.len()).unwrap().to_le_bytes());
            text.extend(part);
        }
        with_header(&text)
    }

    /// One with the pairs that a node has to say, and more.
    fn with(more: &[(&'static str, &'static [u8])]) -> Vec<u8> {
        let needed: [(&str, &[u8]); 3] = [("legion", b"site"), ("unix", b"1700000100"), ("name", b"web1")];
        datagram(&[&needed, more].concat())
    }

    #[test]
    fn an_announcement_is_pairs_behind_a_header() {
        let written = node().write().unwrap();
        assert_eq!(written[4..32], *b"\x06\0legion\x04\0site\x05\0valor\x01\x003\x04\0un");
        assert_eq!(written[..4], [109, u8::try_from(written.len() - 4).unwrap(), 0, 0]);
        assert_eq!(read(&written), Some(node()));
        let last = Announcement { scroll: &[7; 65_000], dead: true, ..node() };
        let written = last.write().unwrap();
        assert!(written.ends_with(b"\x04\0dead\x01\x001"));
        assert_eq!(read(&written), Some(last));
        for scroll in [[7; 65_536].as_slice(), &[7; 65_535]] {
            assert_eq!(Announcement { scroll, ..node() }.write(), None, "it is too long");
        }
    }

    #[test]
    fn a_damaged_a_foreign_or_an_old_one_is_none() {
        let good = node().write().unwrap();
        for length in 0..good.len() {
            assert_eq!(read(&good[..length]), None, "cut after {length}");
        }
        for (at, byte) in [(0, 0), (0, 110), (1, good[1] + 1), (1, good[1] - 1), (2, 1)] {
            let mut other = good.clone();
            other[at] = byte;
            assert_eq!(read(&other), None, "byte {at} is {byte}");
        }
        for rest in [&b"x"[..], b"\x01\0", b"\x01\0x\x01\0", b"\xff\xffx\0\0", b"\0\0\x01\0x"] {
            assert_eq!(read(&[&*good, rest].concat()), None, "{rest:?}");
            assert_eq!(read(&with_header(&[&good[4..], rest].concat())), None, "{rest:?}");
        }
        for legion in ["", "sit", "sites", "Site"] {
            assert_eq!(Announcement::read(&good, legion.as_bytes(), 0), None, "{legion}");
        }
        assert_eq!(Announcement::read(&good, b"site", NOW + 1), None);
        // Clocks differ: one from the future counts, in uWSGI too.
        assert!([0, 1_000_000].iter().all(|ago| Announcement::read(&good, b"site", NOW - ago).is_some()));
        let needed: [(&str, &[u8]); 3] = [("legion", b"site"), ("unix", b"1700000100"), ("name", b"web1")];
        assert!(read(&datagram(&needed)).is_some());
        for missing in 0..3 {
            let some: Vec<_> = needed.iter().copied().filter(|pair| *pair != needed[missing]).collect();
            assert_eq!(read(&datagram(&some)), None, "{some:?}");
        }
    }

    #[test]
    fn numbers_are_read_within_their_length() {
        let valor = |value| read(&with(&[("valor", value)])).map(|said| said.valor);
        // The next byte is a digit: the length of the key that follows.
        let next = [("valor", &b"7"[..]), ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", b"")];
        assert_eq!(read(&with(&next)).unwrap().valor, 7);
        assert_eq!([valor(b"0"), valor(b"007"), valor(b"18446744073709551615")], [0, 7, u64::MAX].map(Some));
        for none in [&b"18446744073709551616"[..], b"", b"+1", b"-1", b" 1", b"1 ", b"0x1", b"1\0", b"\xb2"] {
            assert_eq!(valor(none), None, "{none:?}");
        }
    }

    #[test]
    fn pairs_are_read_as_uwsgi_reads_them() {
        let is = |more: &[(&'static str, &'static [u8])], expected: (u64, Uuid, bool)| {
            let said = with(more);
            let said = read(&said).unwrap();
            assert_eq!((said.valor, said.uuid, said.dead), expected, "{more:?}");
        };
        is(&[("valor", b"1"), ("valor", b"2")], (2, [0; 36], false));
        is(&[("valors", b"1"), ("valo", b"1"), ("VALOR", b"1"), ("new", b"")], (0, [0; 36], false));
        is(&[("dead", b"0")], (0, [0; 36], true));
        is(&[("uuid", &UUID), ("uuid", b"short"), ("uuid", &[b'x'; 37])], (0, UUID, false));
    }

    #[test]
    fn the_properties_hold_for_random_datagrams() {
        /// The first of the words are whole pairs.
        const PAIRS: usize = 4;
        const WORDS: [&str; 10] = [
            "\x05\0valor\x01\x001",
            "\x04\0unix\x0a\x001700000000",
            "\x04\0dead\x01\x001",
            "\x06\0legion\x05\0other",
            "\x04\0uuid",
            "\x06\0scroll\u{7f}\0",
            "\x04\0name\0\0",
            "18446744073709551616",
            "-1",
            "\0",
        ];
        let rng = &mut rng();
        let mut read_some = 0;
        for _ in 0..20_000 {
            let mut text = Announcement { dead: rng.bool(), ..node() }.write().unwrap()[4..].to_vec();
            match rng.u8(..3) {
                0 => mutate(rng, &mut text, &WORDS),
                1 => text.extend([one(rng, &WORDS[..PAIRS]), one(rng, &WORDS[..PAIRS])].concat().bytes()),
                _ => {}
            }
            let mut datagram = with_header(&text);
            if rng.u8(..8) == 0 {
                mutate(rng, &mut datagram, &WORDS);
            }
            let _case = Case(&datagram);
            properties::check(&datagram);
            read_some += usize::from(read(&datagram).is_some());
        }
        assert!((5_000..15_000).contains(&read_some), "{read_some} of 20,000 are announcements");
    }
}
