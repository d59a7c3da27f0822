pub fn check(_: &crate::https::Answer) {}
