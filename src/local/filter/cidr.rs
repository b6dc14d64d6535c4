//! Blocks of addresses.
//!
//! As `event-ruler` does, bits behind the mask may be set and mean nothing. A mask of all bits
//! (`/32`, `/128`), which EventBridge's documentation does not speak of, is one address here.

use std::net::IpAddr;

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cidr {
    is_v6: bool,
    mask: u128,
    network: u128,
}

impl Cidr {
    /// Reads an address, a slash and the number of bits; none if it is no such text.
    pub(super) fn new(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (is_v6, address) = address_of(address)?;
        let width = if is_v6 { 128 } else { 32 };
        let is_plain = bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits: u32 = bits.parse().ok().filter(|bits| is_plain && *bits <= width)?;
        let mask = u128::MAX.checked_shl(width - bits).unwrap_or(0);
        Some(Self { is_v6, mask, network: address & mask })
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        address_of(text).is_some_and(|(is_v6, address)| {
            is_v6 == self.is_v6 && address & self.mask == self.network
        })
    }
}

/// Whether an address is of version 6, and its bits.
fn address_of(text: &str) -> Option<(bool, u128)> {
    Some(match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => (false, address.to_bits().into()),
        IpAddr::V6(address) => (true, address.to_bits()),
    })
}

#[cfg(test)]
mod tests {
    use super::Cidr;

    #[test]
    fn a_block_holds_the_addresses_of_its_bits() {
        for (block, address, holds) in [
            ("10.0.0.0/24", "10.0.0.255", true),
            ("10.0.0.0/24", "10.0.1.0", false),
            ("10.0.0.77/24", "10.0.0.1", true),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("10.0.0.1/32", "10.0.0.2", false),
            ("10.0.0.0/24", "10.0.0.300", false),
            ("10.0.0.0/24", "::ffff:10.0.0.1", false),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:0DB8:ffff::1", true),
            ("2001:db8::/33", "2001:db8:8000::", false),
            ("::1/128", "::1", true),
        ] {
            assert_eq!(Cidr::new(block).unwrap().contains(address), holds, "{block} {address}");
        }
        for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/24"] {
            assert!(Cidr::new(text).is_none(), "{text}");
        }
        for text in ["10.0.0.0/+8", "10.0.0.0/xx", "::/129", "g::/8", "10.0.0.0/8/8"] {
            assert!(Cidr::new(text).is_none(), "{text}");
        }
    }
}
