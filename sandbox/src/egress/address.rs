//! Which addresses are on the public internet: IANA's special-purpose registries (RFC 6890 and its successors), and forms of
//! IPv6 that carry an IPv4 address. What is in doubt is not public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 blocks that are not public.
const V4: [(Ipv4Addr, u32); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // shared by providers; Alibaba's metadata too
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local; metadata of most clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments; Oracle's metadata too
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24),  // AS112
    (Ipv4Addr::new(192, 52, 193, 0), 24),  // AMT
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(168, 63, 129, 16), 32), // a public number that is Azure's metadata
    (Ipv4Addr::new(224, 0, 0, 0), 3),      // multicast, reserved, broadcast
];

/// The IPv6 block of public addresses; nothing outside it is one.
const V6_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// What is not public within it.
const V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4, which carries any IPv4 address
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];
/// The well-known prefix of NAT64 (RFC 6052): the last 32 bits are the IPv4 address that is called.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// What an interface's id begins with under ISATAP (RFC 5214), the universal bit aside; an IPv4 address follows.
const ISATAP: u32 = 0x5efe;

/// Whether an address is on the public internet, whichever form it has.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match called_v4(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

/// The IPv4 address that a connection to this one reaches, where it is one in other clothes.
fn called_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    let [.., a, b, c, d] = address.octets();
    within_v6(address, NAT64).then(|| Ipv4Addr::new(a, b, c, d))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(block, bits): &(Ipv4Addr, u32)| (u32::from(address) ^ u32::from(*block)).leading_zeros() >= *bits;
    !V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [_, _, _, _, high, low, _, _] = address.segments();
    let interface = (u32::from(high & !0x0200) << 16) | u32::from(low);
    within_v6(address, V6_UNICAST) && interface != ISATAP && !V6.iter().any(|block| within_v6(address, *block))
}

fn within_v6(address: Ipv6Addr, (block, bits): (Ipv6Addr, u32)) -> bool {
    (u128::from(address) ^ u128::from(block)).leading_zeros() >= bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    /// Both ends of every block, and what clouds keep there.
    const INSIDE: &str = "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 100.100.100.200 127.0.0.1 \
        127.255.255.254 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 \
        192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 \
        198.51.100.1 203.0.113.255 168.63.129.16 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 \
        ::127.0.0.1 ::8.8.8.8 fe80::1 fec0::1 fc00::1 fd00:ec2::254 ff02::1 2001::1 2001:1ff:ffff:: \
        2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 64:ff9b:1::1 100::1 5f00::1 ::ffff:127.0.0.1 \
        ::ffff:169.254.169.254 64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 2606:4700::5efe:127.0.0.1 \
        2606:4700::200:5efe:10.0.0.1";
    /// The neighbours of those blocks.
    const OUTSIDE: &str = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
        169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 \
        198.17.255.255 198.20.0.0 168.63.129.15 223.255.255.255 2606:4700::1111 2001:200::1 \
        2001:4860:4860::8888 2003::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8";

    #[test]
    fn s_01_the_edges_of_every_block_are_where_the_registries_put_them() {
        for text in INSIDE.split_whitespace() {
            assert!(!public(text), "{text}");
        }
        for text in OUTSIDE.split_whitespace() {
            assert!(public(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn s_01_an_ipv4_address_in_other_clothes_is_judged_as_itself(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let plain = is_public(v4.into());
            prop_assert_eq!(is_public(v4.to_ipv6_mapped().into()), plain);
            prop_assert_eq!(is_public(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into()), plain);
            for carrier in [
                v4.to_ipv6_compatible(),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, !high, !low),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0x5efe, high, low),
            ] {
                prop_assert!(!is_public(carrier.into()), "{}", carrier);
            }
        }

        #[test]
        fn s_01_what_the_standard_library_knows_as_special_is_never_public(bits: u32, wide: u128) {
            let v4 = Ipv4Addr::from(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
            prop_assert!(!(special && is_public(v4.into())), "{}", v4);
            let v6 = Ipv6Addr::from(wide);
            let special = v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast();
            prop_assert!(!(special && is_public(v6.into())), "{}", v6);
        }
    }
}
