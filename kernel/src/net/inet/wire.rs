//! The loopback device: what is sent comes back.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket};

use crate::net::inet::address::Endpoint;

/// Bytes of the longest packet.
const MTU: usize = 65535;
/// Requests to connect that are held back, at most: others are lost, and sent again when their sender looks for them.
const MAX_HELD: usize = 4096;

/// Packets on their way.
#[derive(Default)]
pub struct Wire {
    packets: VecDeque<Vec<u8>>,
    /// Requests to connect to whose backlog is full.
    held: Vec<(Endpoint, Vec<u8>)>,
}

impl Wire {
    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Holds the next packet back if it asks to connect to an endpoint that is full. Whether there was such.
    pub fn hold_next(&mut self, is_full: impl Fn(Endpoint) -> bool) -> bool {
        let Some(target) = self.packets.front().and_then(|packet| asks_to_connect(packet)) else {
            return false;
        };
        if !is_full(target) {
            return false;
        }
        if let Some(packet) = self.packets.pop_front()
            && self.held.len() < MAX_HELD
        {
            self.held.push((target, packet));
        }
        true
    }

    /// Sends on what was held back for endpoints that are not full any more.
    pub fn release(&mut self, is_full: impl Fn(Endpoint) -> bool) {
        let packets = &mut self.packets;
        self.held.retain_mut(|(target, packet)| {
            let stays = is_full(*target);
            if !stays {
                packets.push_back(core::mem::take(packet));
            }
            stays
        });
    }
}

/// Where a packet wants to connect to.
fn asks_to_connect(packet: &[u8]) -> Option<Endpoint> {
    let packet = Ipv4Packet::new_checked(packet).ok()?;
    if packet.next_header() != IpProtocol::Tcp {
        return None;
    }
    let tcp = TcpPacket::new_checked(packet.payload()).ok()?;
    (tcp.syn() && !tcp.ack()).then_some(Endpoint { address: packet.dst_addr(), port: tcp.dst_port() })
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Room<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }

    fn receive(&mut self, _timestamp: Instant) -> Option<(Arrived, Room<'_>)> {
        let packet = self.packets.pop_front()?;
        Some((Arrived(packet), Room(&mut self.packets)))
    }

    fn transmit(&mut self, _timestamp: Instant) -> Option<Room<'_>> {
        Some(Room(&mut self.packets))
    }
}

/// A packet that has arrived.
pub struct Arrived(Vec<u8>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a packet.
pub struct Room<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
