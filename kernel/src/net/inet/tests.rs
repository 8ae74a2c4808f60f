use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use linux_raw_sys::{errno, general as abi, net};

use crate::errno::{Errno, Result};
use crate::host;
use crate::memory::width::Width;
use crate::net::inet::address::Endpoint;
use crate::net::inet::ports::Ports;
use crate::net::inet::tcp::Tcp;
use crate::net::inet::udp::Udp;
use crate::net::patience::Patience;
use crate::net::protocol::{Incoming, Outgoing, Protocol, Received};
use crate::vfs::buffer::{Destination, Source};

const WAITS: Errno = Errno(errno::EAGAIN as usize);

fn loopback(port: u16) -> Endpoint {
    Endpoint { address: Ipv4Addr::LOCALHOST, port }
}

fn send(socket: &dyn Protocol, bytes: &[u8], to: Option<&[u8]>) -> Result<usize> {
    let bytes = &mut Source::kernel(bytes);
    let patience = Patience::NONE;
    socket.send(Outgoing { bytes, to, files: Vec::new(), credentials: None, flags: net::MSG_NOSIGNAL, patience })
}

fn receive(socket: &dyn Protocol, len: usize) -> Result<(Vec<u8>, Received)> {
    let mut buffer = vec![0; len];
    let bytes = &mut Destination::kernel(&mut buffer);
    let received = socket.receive(Incoming { bytes, flags: 0, at_least: 1, patience: Patience::NONE })?;
    buffer.truncate(received.len);
    Ok((buffer, received))
}

fn received(socket: &dyn Protocol, len: usize) -> Result<Vec<u8>> {
    Ok(receive(socket, len)?.0)
}

fn listener(backlog: u32) -> Tcp {
    let server = Tcp::new();
    server.bind(&loopback(0).to_sockaddr()).expect("a port");
    server.listen(backlog).expect("it listens");
    server
}

/// Connects without waiting, which has been done when the call returns unless the listener is full.
fn connecting(to: &Tcp) -> Tcp {
    let client = Tcp::new();
    assert_eq!(client.connect(&to.name(), Patience::NONE), Err(Errno::EINPROGRESS));
    client
}

fn with_connection(test: impl FnOnce(Tcp, Box<dyn Protocol>)) {
    host::process::run(Width::Bits64, |_| {
        let server = listener(1);
        let client = connecting(&server);
        let end = server.accept(Patience::NONE).expect("a connection");
        assert_eq!(client.connect(&server.name(), Patience::NONE), Ok(()), "it has been made");
        drop(server);
        test(client, end);
    });
}

#[test]
fn addresses_are_read_and_written() {
    let bytes = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!((Endpoint::from_sockaddr(&bytes), loopback(8080).to_sockaddr()), (Ok(loopback(8080)), bytes.to_vec()));
    assert_eq!(Endpoint::from_sockaddr(&bytes[..15]), Err(Errno::EINVAL));
    assert_eq!(Endpoint::from_sockaddr(&[10; 16]), Err(Errno(errno::EAFNOSUPPORT as usize)));
    let elsewhere = Endpoint { address: Ipv4Addr::new(10, 0, 0, 1), port: 1 };
    assert_eq!(elsewhere.as_destination(), Err(Errno(errno::ENETUNREACH as usize)));
    assert_eq!(Endpoint { port: 7, ..Endpoint::NONE }.as_destination(), Ok(loopback(7)));
}

#[test]
fn a_port_is_shared_by_those_who_share_and_do_not_listen() {
    let ports = Ports::new();
    let in_use = Err(Errno(errno::EADDRINUSE as usize));
    let any = Endpoint { port: 5000, ..Endpoint::NONE };
    assert_eq!(ports.take(1, loopback(5000), true), Ok(loopback(5000)));
    assert_eq!((ports.take(2, any, false), ports.take(2, any, true)), (in_use, Ok(any)));
    assert_eq!((ports.listen(1), ports.listen(2)), (Ok(()), Err(Errno(errno::EADDRINUSE as usize))));
    assert_eq!(ports.take(3, any, true), in_use);
    ports.release(1);
    assert_eq!(ports.listen(2), Ok(()));
    let mut chosen: Vec<u16> = (10..50).map(|id| ports.take(id, loopback(0), false).expect("a port").port).collect();
    chosen.sort_unstable();
    chosen.dedup();
    assert!(chosen.len() == 40 && chosen[0] >= 32768, "{chosen:?}");
}

#[test]
fn bytes_go_over_a_connection_in_order() {
    with_connection(|client, end| {
        assert_eq!((send(&client, b"to the server", None), send(&*end, b"back", None)), (Ok(13), Ok(4)));
        assert_eq!((received(&*end, 6), received(&*end, 100)), (Ok(b"to the".to_vec()), Ok(b" server".to_vec())));
        assert_eq!((received(&client, 100), received(&client, 1)), (Ok(b"back".to_vec()), Err(WAITS)));
        assert_eq!((end.peer_name(), end.name()), (Ok(client.name()), client.peer_name().expect("a peer")));
        let mut sent = Vec::new();
        let block: Vec<u8> = (0..7777).map(|n| ((n * 7) >> 3) as u8).collect();
        while let Ok(len) = send(&client, &block, None) {
            sent.extend_from_slice(&block[..len]);
            assert!(sent.len() < 1 << 20);
        }
        assert!(sent.len() >= 128 << 10 && client.poll(None) & abi::POLLOUT == 0, "{}", sent.len());
        let mut got = Vec::new();
        while let Ok(bytes) = received(&*end, 5000) {
            got.extend(bytes);
        }
        assert!(got == sent && client.poll(None) & abi::POLLOUT != 0);
    });
}

#[test]
fn a_connection_ends_in_each_direction() {
    with_connection(|client, end| {
        assert_eq!((send(&client, b"last", None), client.shut_down(false, true)), (Ok(4), Ok(())));
        assert_eq!((received(&*end, 10), received(&*end, 10)), (Ok(b"last".to_vec()), Ok(vec![])));
        assert_eq!((send(&client, b"x", None), send(&*end, b"y", None)), (Err(Errno::EPIPE), Ok(1)));
        drop(end);
        assert_eq!((received(&client, 10), received(&client, 10)), (Ok(b"y".to_vec()), Ok(vec![])));
        assert_ne!(client.poll(None) & abi::POLLHUP, 0);
    });
    let reset = Err(Errno(errno::ECONNRESET as usize));
    with_connection(|client, end| {
        assert_eq!(send(&client, b"unread", None), Ok(6));
        drop(end);
        assert_eq!((received(&client, 1), received(&client, 1)), (reset.clone(), Ok(vec![])));
    });
    with_connection(|client, end| {
        drop(end);
        assert_eq!((received(&client, 1), send(&client, b"x", None)), (Ok(vec![]), Ok(1)));
        assert_eq!(send(&client, b"x", None), Err(Errno::EPIPE), "nobody is there");
    });
}

#[test]
fn who_finds_a_full_backlog_gets_through_when_there_is_room() {
    host::process::run(Width::Bits64, |_| {
        let server = listener(0);
        let (first, second) = (connecting(&server), connecting(&server));
        assert_ne!(first.poll(None) & abi::POLLOUT, 0);
        assert_eq!(second.poll(None), 0, "it waits");
        assert_eq!(second.connect(&server.name(), Patience::NONE), Err(Errno(errno::EALREADY as usize)));
        drop(server.accept(Patience::NONE).expect("the first"));
        assert_ne!(second.poll(None) & abi::POLLOUT, 0);
        let third = connecting(&server);
        drop(server);
        assert_eq!(received(&second, 1), Err(Errno(errno::ECONNRESET as usize)), "it was not accepted");
        assert_eq!(third.take_error(), Some(Errno(errno::ECONNREFUSED as usize)));
    });
}

#[test]
fn nobody_listens_and_nobody_receives() {
    host::process::run(Width::Bits64, |_| {
        let refused = Errno(errno::ECONNREFUSED as usize);
        let name = listener(1).name();
        let client = Tcp::new();
        assert_eq!(client.connect(&name, Patience::NONE), Err(Errno::EINPROGRESS));
        assert_eq!(client.poll(None) & (abi::POLLERR | abi::POLLHUP), abi::POLLERR | abi::POLLHUP);
        assert_eq!(client.connect(&name, Patience::NONE), Err(refused));
        assert_eq!(client.peer_name(), Err(Errno(errno::ENOTCONN as usize)));
        let socket = Udp::new();
        assert_eq!((socket.connect(&name, Patience::NONE), send(&socket, b"x", None)), (Ok(()), Ok(1)));
        assert_eq!((received(&socket, 1), received(&socket, 1)), (Err(refused), Err(WAITS)));
    });
}

#[test]
fn datagrams_come_whole_until_there_is_no_room() {
    host::process::run(Width::Bits64, |_| {
        let (receiver, sender) = (Udp::new(), Udp::new());
        receiver.bind(&loopback(0).to_sockaddr()).expect("a port");
        let name = receiver.name();
        assert_eq!(send(&sender, b"first", Some(&name)), Ok(5));
        let (bytes, from) = receive(&receiver, 3).expect("a datagram");
        assert_eq!((&bytes[..], from.message_len, from.flags), (&b"fir"[..], 5, net::MSG_TRUNC));
        let sender_port = Endpoint::from_sockaddr(&sender.name()).expect("a name").port;
        assert_eq!(from.from, loopback(sender_port).to_sockaddr());
        for _ in 0..1000 {
            assert_eq!(send(&sender, &[1; 1000], Some(&name)), Ok(1000), "the sender does not hear of it");
        }
        let count = (0..2000).take_while(|_| received(&receiver, 1000).is_ok()).count();
        assert!((50..300).contains(&count), "{count}");
        assert_eq!(send(&sender, &[0; 65508], Some(&name)), Err(Errno(errno::EMSGSIZE as usize)));
    });
}
