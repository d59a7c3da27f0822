//! The addresses on this host's interfaces.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// Every address on every interface, with the interface's name.
pub fn interface_addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: getifaddrs() writes the head of a list into ours, or fails.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut entry = first;
    while !entry.is_null() {
        // SAFETY: an entry of the list, which is ours until it is freed below. An address is NULL, or of the length
        // that belongs to its family; a name is NUL-terminated.
        unsafe {
            let name = || CStr::from_ptr((*entry).ifa_name).to_string_lossy().into_owned();
            let address = (*entry).ifa_addr;
            if !address.is_null() {
                match i32::from((*address).sa_family) {
                    libc::AF_INET => {
                        let address = ptr::read_unaligned(address.cast::<libc::sockaddr_in>());
                        found.push((name(), Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into()));
                    }
                    libc::AF_INET6 => {
                        let address = ptr::read_unaligned(address.cast::<libc::sockaddr_in6>());
                        found.push((name(), Ipv6Addr::from(address.sin6_addr.s6_addr).into()));
                    }
                    _ => {}
                }
            }
            entry = (*entry).ifa_next;
        }
    }
    // SAFETY: the list from above, used no more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_loopback() {
        let loopback = ("lo".to_string(), Ipv4Addr::LOCALHOST.into());
        assert!(interface_addresses().unwrap().contains(&loopback));
    }
}
