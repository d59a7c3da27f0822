//! What requests are signed with, for the stand-ins that look at signatures.

use tokio_rustls::rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use tokio_rustls::rustls::crypto::tls13::OkmBlock;

/// HMAC-SHA256 by a key of at most 64 bytes.
pub fn hmac_sha256(key: &str, message: &str) -> Vec<u8> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("it is one of TLS 1.3");
    suite.hkdf_provider.hmac_sign(&OkmBlock::new(key.as_bytes()), message.as_bytes()).as_ref().to_vec()
}

/// SHA-1 in hexadecimal digits, which no library here has any more.
pub fn sha1(message: &str) -> String {
    let mut bytes = message.as_bytes().to_vec();
    bytes.push(0x80);
    bytes.resize((bytes.len() + 8).next_multiple_of(64) - 8, 0);
    bytes.extend((message.len() as u64 * 8).to_be_bytes());
    let mut sum: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in bytes.chunks_exact(64) {
        let mut words: Vec<u32> = block
            .chunks_exact(4)
            .map(|word| u32::from_be_bytes(word.try_into().expect("four bytes")))
            .collect();
        for at in 16..80 {
            let word = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words.push(word.rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = sum;
        for (round, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match round / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999_u32),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = [mixed, e, constant, word].into_iter().fold(a.rotate_left(5), u32::wrapping_add);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (sum, more) in sum.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(more);
        }
    }
    sum.iter().map(|word| format!("{word:08x}")).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// The example of Exoscale's documentation.
    #[test]
    fn hmac_is_as_documented() {
        let message = "GET /v2/resource/a02baf5a-a3e4-49a0-857b-8a08d276c1c0\n\nv1v2\n\n1599140767";
        let found = STANDARD.encode(hmac_sha256("example-secret", message));
        assert_eq!(found, "vPVxcXrf2my0TLdJ8WPIGa/vLld+FiJN+xtMs/vofHg=");
    }

    /// The examples of RFC 3174, and the lengths about a block.
    #[test]
    fn sha1_is_as_documented() {
        assert_eq!(sha1("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(sha1(two), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
        assert_eq!(sha1(&"a".repeat(64)), "0098ba824b5c16427bd7a1122a5a442a25ec644d");
        assert_eq!(sha1(&"a".repeat(55)), "c1c8bbdc22796e28c0e15163d20899b65621d65a");
        assert_eq!(sha1(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }
}
