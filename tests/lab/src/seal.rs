//! A Legion's datagrams, opened and sealed as uWSGI does it by `aes-128-cbc`, so that tests can send what no node says.

/// The bytes of a cipher's block.
const BLOCK: usize = 16;
/// The kind of uWSGI's packets that are a Legion's.
const KIND: u8 = 109;
/// What uWSGI begins with where the configuration names nothing.
const FIRST: Block = [b'0'; BLOCK];

type Block = [u8; BLOCK];

/// The pairs of an announcement, each a key and its value.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The secret of a Legion.
#[derive(Clone)]
pub struct Secret {
    /// Of each round.
    keys: [Block; 11],
    boxes: Boxes,
}

impl Secret {
    /// As an ini names it; one that is shorter than a key ends in zeros.
    pub fn new(text: &str) -> Secret {
        let mut key = [0; BLOCK];
        let length = text.len().min(BLOCK);
        key[..length].copy_from_slice(&text.as_bytes()[..length]);
        Secret::of(key)
    }

    fn of(key: Block) -> Secret {
        let boxes = Boxes::new();
        let mut words = [[0; 4]; 44];
        for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
            word.copy_from_slice(bytes);
        }
        let mut round = 1;
        for at in 4..words.len() {
            let mut last = words[at - 1];
            if at % 4 == 0 {
                last = [last[1], last[2], last[3], last[0]].map(|byte| boxes.there[usize::from(byte)]);
                last[0] ^= round;
                round = double(round);
            }
            words[at] = std::array::from_fn(|byte| words[at - 4][byte] ^ last[byte]);
        }
        let keys = std::array::from_fn(|round| std::array::from_fn(|at| words[4 * round + at / 4][at % 4]));
        Secret { keys, boxes }
    }

    /// The datagram that says these.
    pub fn seal(&self, pairs: &Pairs) -> Vec<u8> {
        let mut text = Vec::new();
        for part in pairs.iter().flat_map(|(key, value)| [key, value]) {
            text.extend(u16::try_from(part.len()).expect("short texts").to_le_bytes());
            text.extend(part);
        }
        let [low, high] = u16::try_from(text.len()).expect("short texts").to_le_bytes();
        let rest = BLOCK - text.len() % BLOCK;
        text.extend(vec![u8::try_from(rest).expect("a block"); rest]);
        let mut datagram = vec![KIND, low, high, 0];
        let mut before = FIRST;
        for block in text.chunks_exact(BLOCK) {
            before = self.encrypt(std::array::from_fn(|at| block[at] ^ before[at]));
            datagram.extend(before);
        }
        datagram
    }

    /// What a node's datagram says, if it is sealed by this.
    pub fn open(&self, datagram: &[u8]) -> Option<Pairs> {
        let [KIND, low, high, _, sealed @ ..] = datagram else { return None };
        let length = u16::from_le_bytes([*low, *high]).into();
        let (mut text, mut before) = (Vec::new(), FIRST);
        for block in sealed.chunks_exact(BLOCK) {
            let block: Block = block.try_into().expect("of that length");
            let clear = self.decrypt(block);
            text.extend(clear.iter().zip(before).map(|(byte, before)| byte ^ before));
            before = block;
        }
        let mut text = text.get(..length)?;
        let mut pairs = Vec::new();
        while !text.is_empty() {
            pairs.push((take(&mut text)?, take(&mut text)?));
        }
        Some(pairs)
    }

    fn encrypt(&self, block: Block) -> Block {
        let mut block = xor(block, self.keys[0]);
        for round in 1..=10 {
            block = block.map(|byte| self.boxes.there[usize::from(byte)]);
            block = std::array::from_fn(|at| block[(at + 4 * (at % 4)) % BLOCK]);
            if round < 10 {
                block = mix(block);
            }
            block = xor(block, self.keys[round]);
        }
        block
    }

    fn decrypt(&self, block: Block) -> Block {
        let mut block = xor(block, self.keys[10]);
        for round in (0..10).rev() {
            block = std::array::from_fn(|at| block[(at + 12 * (at % 4)) % BLOCK]);
            block = block.map(|byte| self.boxes.back[usize::from(byte)]);
            block = xor(block, self.keys[round]);
            if round > 0 {
                // Mixed four times, it is what it was.
                block = mix(mix(mix(block)));
            }
        }
        block
    }
}

/// AES's substitution of bytes, and its inverse.
#[derive(Clone)]
struct Boxes {
    there: [u8; 256],
    back: [u8; 256],
}

impl Boxes {
    fn new() -> Boxes {
        let (mut there, mut back) = ([0; 256], [0; 256]);
        // A number and its inverse: 3 and its inverse generate all but zero, which has none.
        let (mut number, mut inverse) = (1_u8, 1_u8);
        for at in 0..=255_u8 {
            let (from, to) = if at == 0 { (0, 0) } else { (number, inverse) };
            let to = (0..5).fold(0x63, |sum, turn| sum ^ to.rotate_left(turn));
            there[usize::from(from)] = to;
            back[usize::from(to)] = from;
            if at > 0 {
                number ^= double(number);
                inverse = third(inverse);
            }
        }
        Boxes { there, back }
    }
}

/// Twice a number of AES's field.
fn double(number: u8) -> u8 {
    number << 1 ^ if number & 0x80 == 0 { 0 } else { 0x1b }
}

/// A third of one.
fn third(number: u8) -> u8 {
    (0..=255).find(|third: &u8| third ^ double(*third) == number).expect("every number has one")
}

fn mix(block: Block) -> Block {
    let mix = |at: usize| {
        let column = &block[at - at % 4..][..4];
        let all = column.iter().fold(0, |sum, byte| sum ^ byte);
        block[at] ^ all ^ double(block[at] ^ column[(at + 1) % 4])
    };
    std::array::from_fn(mix)
}

fn xor(block: Block, key: Block) -> Block {
    std::array::from_fn(|at| block[at] ^ key[at])
}

/// Two bytes of length, and as many bytes.
fn take(text: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = text.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    *text = rest;
    Some(part.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_as_the_standard_says() {
        // FIPS 197, appendix C.1.
        let secret = Secret::of(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let clear = std::array::from_fn(|at| u8::try_from(at * 0x11).unwrap());
        let sealed = secret.encrypt(clear);
        assert_eq!(sealed, 0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a_u128.to_be_bytes());
        assert_eq!(secret.decrypt(sealed), clear);
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_same_secret() {
        for length in [0, 1, 15, 16, 17, 300] {
            let pairs = vec![(b"legion".to_vec(), b"failover".to_vec()), (b"x".to_vec(), vec![7; length])];
            let sealed = Secret::new("secret1").seal(&pairs);
            assert_eq!(Secret::new("secret1").open(&sealed), Some(pairs.clone()));
            assert_ne!(Secret::new("secret2").open(&sealed), Some(pairs));
        }
        assert_eq!(Secret::new("secret1").open(b"hello"), None);
    }
}
