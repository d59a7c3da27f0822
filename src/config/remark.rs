//! What there is to say about an argument, and how serious that is.

use std::fmt;

/// One sentence. It never shows a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    weight: Weight,
    sentence: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The hook cannot work.
    Wrong,
    /// What the hook needs cannot be read now. Later it may be.
    Away,
    /// The hook works, but perhaps not as intended.
    Doubtful,
}

impl Remark {
    pub fn new(weight: Weight, sentence: impl Into<String>) -> Remark {
        Remark { weight, sentence: sentence.into() }
    }

    pub fn wrong(sentence: impl Into<String>) -> Remark {
        Remark::new(Weight::Wrong, sentence)
    }

    pub fn weight(&self) -> Weight {
        self.weight
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}
