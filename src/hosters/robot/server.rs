//! Finds this server's main IP, by which Robot knows it: the default of `active_ip`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use ureq::http::Uri;

use crate::config::host_of;
use crate::sys::{interface_addresses, net};

/// Stand for the API, whose name is not resolved here, because any address on the Internet will do. Both are reserved
/// for documentation, and nothing is sent to them.
const SOMEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The address from which this host connects to the API, or for IPv6 its net; or why there is none. The `failover` IPs
/// are not a server's own, though each server that may get them has them on an interface. An API on loopback is a test
/// setup, in which the Legion's address is the server's.
pub fn main_ip(legion: Option<IpAddr>, url: &Uri, ipv6: bool, failover: &[IpAddr]) -> Result<IpAddr, String> {
    let may_be_own = |own: &IpAddr| !is_one_of(*own, failover);
    let api = host_of(url).parse::<IpAddr>().ok().filter(|api| api.is_ipv6() == ipv6);
    let own = match api {
        Some(api) if api.is_loopback() => legion.filter(|own| own.is_ipv6() == ipv6 && may_be_own(own)),
        api => {
            let own = source(api.unwrap_or(SOMEWHERE[usize::from(ipv6)])).filter(|own| is_public(*own));
            // A host may connect from a failover IP; its own address is then elsewhere on its interfaces.
            own.and_then(|own| {
                if may_be_own(&own) { Some(own) } else { beside(own, &interface_addresses().ok()?, failover) }
            })
        }
    };
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    own.map(net).ok_or_else(|| {
        format!("active_ip is not set, and this host has no public {family} address of its own")
    })
}

fn is_one_of(address: IpAddr, failover: &[IpAddr]) -> bool {
    failover.iter().any(|ip| net(*ip) == net(address))
}

/// The address that is most likely the server's own if `address` is not: the first other one on the same interface, or
/// else the only one on any interface.
fn beside(address: IpAddr, all: &[(String, IpAddr)], failover: &[IpAddr]) -> Option<IpAddr> {
    let own = |other: &IpAddr| {
        other.is_ipv6() == address.is_ipv6() && is_public(*other) && !is_one_of(*other, failover)
    };
    let is_interface = |name: &String| all.contains(&(name.clone(), address));
    let first = all.iter().find(|(name, other)| own(other) && is_interface(name));
    let mut nets: Vec<IpAddr> = all.iter().map(|(_, other)| *other).filter(own).map(net).collect();
    nets.dedup();
    let only = if let [only] = nets[..] { Some(only) } else { None };
    first.map(|(_, other)| *other).or(only)
}

/// The source address of packets to `target`. To connect a UDP socket only looks it up in the routing table.
fn source(target: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(if target.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).ok()?;
    socket.connect((target, 443)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // 100.64.0.0/10 is shared by customers of a provider (RFC 6598).
            let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || shared)
        }
        // Global unicast (RFC 4291).
        IpAddr::V6(address) => address.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_local_addresses_are_not_public() {
        for (address, expected) in [
            ("1.1.1.1", true),
            ("10.0.0.1", false),
            ("192.168.1.1", false),
            ("169.254.1.1", false),
            ("127.0.0.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("2a01:4f8::1", true),
            ("::1", false),
            ("fe80::1", false),
            ("fd00::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_failover_ip_is_not_this_hosts_own_but_the_address_beside_it_may_be() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let failover = [address("203.0.113.9"), address("2a01:4f8:fff1::")];
        assert!(!is_one_of(failover[0], &failover[1..]));
        assert!(is_one_of(failover[0], &failover) && is_one_of(address("2a01:4f8:fff1::5"), &failover));
        let beside = |all: &[(&str, &str)]| {
            let all: Vec<_> = all.iter().map(|(name, text)| (name.to_string(), address(text))).collect();
            beside(failover[0], &all, &failover).map(|found| found.to_string())
        };
        let ip = "203.0.113.9";
        assert_eq!(beside(&[("eth0", ip)]), None);
        assert_eq!(
            beside(&[("eth0", ip), ("eth0", "10.0.0.1"), ("lo", "127.0.0.1")]),
            None,
            "none is public"
        );
        let on_one = [("tun0", "5.5.5.6"), ("eth0", ip), ("eth0", "5.5.5.5"), ("eth0", "5.5.5.7")];
        assert_eq!(beside(&on_one).as_deref(), Some("5.5.5.5"), "the first on the same interface");
        let elsewhere = [("lo", ip), ("eth0", "5.5.5.5")];
        assert_eq!(beside(&elsewhere).as_deref(), Some("5.5.5.5"), "the only one");
        let many = [("lo", ip), ("eth0", "5.5.5.5"), ("eth1", "5.5.5.6")];
        assert_eq!(beside(&many), None, "nobody can tell");
    }

    #[test]
    fn the_way_to_loopback_starts_on_loopback() {
        assert_eq!(source([127, 0, 0, 1].into()), Some([127, 0, 0, 1].into()));
    }
}
