//! The addresses that connections come from.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context as _, Result};

/// Each has some 28,000 ports: more than these are a mistake.
const MAX_ADDRESSES: usize = 1_024;

/// Source addresses, taken in turn: each has its own ports. With none, the kernel chooses.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    addresses: Arc<[Ipv4Addr]>,
    /// How many were taken. Clones share it.
    taken: Arc<AtomicUsize>,
}

impl Sources {
    /// These addresses.
    pub fn new(addresses: Vec<Ipv4Addr>) -> Self {
        Self { addresses: addresses.into(), taken: Arc::default() }
    }

    /// The addresses.
    pub fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    /// How many addresses connections come from: with none given, one.
    pub fn count(&self) -> usize {
        self.addresses.len().max(1)
    }

    /// Makes sure that all are addresses of this machine.
    ///
    /// # Errors
    /// One is not.
    pub fn check(&self) -> Result<()> {
        let bind = |address: &Ipv4Addr| -> io::Result<UdpSocket> { UdpSocket::bind((*address, 0)) };
        self.addresses.iter().try_for_each(|address| {
            bind(address).map(drop).with_context(|| {
                format!(
                    "--bind {address}: connections cannot come from there; `ip address` lists this machine's addresses"
                )
            })
        })
    }

    /// The next address in turn.
    pub(super) fn next(&self) -> Option<Ipv4Addr> {
        let turn = self.taken.fetch_add(1, Relaxed);
        self.addresses.get(turn.checked_rem(self.addresses.len())?).copied()
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut addresses = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (address(first)?, address(last)?);
            if last < first {
                return Err(format!("{part} is backwards: write {last}-{first}"));
            }
            let room = MAX_ADDRESSES - addresses.len();
            if last.to_bits() - first.to_bits() >= room as u32 {
                return Err(format!("more than {MAX_ADDRESSES} addresses: each has thousands of ports, so name fewer"));
            }
            addresses.extend((first.to_bits()..=last.to_bits()).map(Ipv4Addr::from_bits));
        }
        Ok(Self::new(addresses))
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        formatter.write_str(&texts.join(","))
    }
}

fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is no IPv4 address: write 127.0.0.1-127.0.0.8, or 10.0.0.2,10.0.0.3"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_and_a_list_are_addresses() {
        let addresses = |text: &str| text.parse::<Sources>().unwrap().to_string();
        assert_eq!(addresses("127.0.0.1"), "127.0.0.1");
        assert_eq!(addresses("127.0.0.254-127.0.1.1,10.0.0.2"), "127.0.0.254,127.0.0.255,127.0.1.0,127.0.1.1,10.0.0.2");
        assert_eq!("127.0.0.1-127.0.4.0".parse::<Sources>().unwrap().count(), MAX_ADDRESSES);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("127.0.0.3-127.0.0.1", "backwards: write 127.0.0.1-127.0.0.3"),
            ("127.0.0.0-127.0.4.0", "more than 1024"),
            ("127.0.0.1-127.0.4.0,127.0.5.0", "more than 1024"),
            ("0.0.0.0-255.255.255.255", "more than 1024"),
            ("::1", "no IPv4 address"),
            ("127.0.0.1-", "no IPv4 address"),
            ("", "no IPv4 address"),
        ] {
            let error = text.parse::<Sources>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn addresses_are_taken_in_turn_by_all_clones() {
        let sources: Sources = "127.0.0.1-127.0.0.2".parse().unwrap();
        let turns =
            [sources.next(), sources.clone().next(), sources.next()].map(|address| address.unwrap().octets()[3]);
        assert_eq!(turns, [1, 2, 1]);
        assert_eq!((Sources::default().next(), Sources::default().count()), (None, 1));
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        // Kept for documents: nobody has it.
        let error = format!("{:#}", "127.0.0.1,192.0.2.1".parse::<Sources>().unwrap().check().unwrap_err());
        assert!(error.contains("--bind 192.0.2.1"), "{error}");
        "127.0.0.1-127.0.0.3".parse::<Sources>().unwrap().check().unwrap();
    }
}
