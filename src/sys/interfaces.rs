//! The addresses of this host's interfaces.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// Every address on every interface, with the interface's name.
pub fn interface_addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: getifaddrs() fails, or writes the head of a list to our pointer.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut entry = first;
    while !entry.is_null() {
        // SAFETY: an entry of the list, which is freed below. An address is NULL or has the length of its family; a name is
        // NUL-terminated.
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
    // SAFETY: the list from above, not used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// An IPv6 address's /64: a server is assigned the whole net and may use any address in it.
pub fn net(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Whether `address`, or for IPv6 an address in its net, is on an interface of this host. `None` if the kernel cannot be
/// asked: a sandbox may forbid netlink.
pub fn is_here(address: IpAddr) -> Option<bool> {
    // All of 127.0.0.0/8 is, though the interface has only one address.
    if matches!(address, IpAddr::V4(address) if address.is_loopback()) {
        return Some(true);
    }
    let own = interface_addresses().ok()?;
    Some(own.iter().any(|(_, own)| net(*own) == net(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_loopback() {
        let loopback = ("lo".to_string(), Ipv4Addr::LOCALHOST.into());
        assert!(interface_addresses().unwrap().contains(&loopback));
    }

    #[test]
    fn an_ipv6_address_stands_for_its_net() {
        let own: IpAddr = "2a01:4f8:0:5176:1:2:3:4".parse().unwrap();
        assert_eq!(net(own).to_string(), "2a01:4f8:0:5176::");
        assert_eq!(is_here("127.1.2.3".parse().unwrap()), Some(true));
        assert_eq!(is_here("198.51.100.77".parse().unwrap()), Some(false));
    }
}
